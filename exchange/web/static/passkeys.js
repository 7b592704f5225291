// Passkeys: hands the exchange's options to the browser and the browser's answer back. Nothing else is scripted.
"use strict";

const told = document.getElementById("passkey-told");

function tell(text) {
  told.textContent = text;
  told.classList.remove("hidden");
}

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));

const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

async function post(url, csrf, body) {
  const reply = await fetch(url, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(body),
  });
  const answer = await reply.json();
  if (!reply.ok) {
    throw Object.assign(new Error(`${answer.detail} — ${answer.hint}`), { code: answer.code });
  }
  return answer;
}

function described(keys) {
  return (keys || []).map((key) => ({ ...key, id: bytes(key.id) }));
}

async function create(options) {
  const publicKey = {
    ...options,
    challenge: bytes(options.challenge),
    user: { ...options.user, id: bytes(options.user.id) },
    excludeCredentials: described(options.excludeCredentials),
  };
  const made = await navigator.credentials.create({ publicKey });
  const { clientDataJSON, attestationObject } = made.response;
  return {
    id: made.id, rawId: text(made.rawId), type: made.type,
    response: { clientDataJSON: text(clientDataJSON), attestationObject: text(attestationObject) },
  };
}

async function sign(options) {
  const publicKey = {
    ...options, challenge: bytes(options.challenge), allowCredentials: described(options.allowCredentials),
  };
  const made = await navigator.credentials.get({ publicKey });
  const { clientDataJSON, authenticatorData, signature, userHandle } = made.response;
  return {
    id: made.id, rawId: text(made.rawId), type: made.type,
    response: {
      clientDataJSON: text(clientDataJSON), authenticatorData: text(authenticatorData),
      signature: text(signature), userHandle: userHandle ? text(userHandle) : null,
    },
  };
}

function showCodes(codes, next, words) {
  tell(words.codes);
  const list = document.createElement("pre");
  list.textContent = codes.join("\n");
  const on = document.createElement("a");
  on.href = next;
  on.textContent = words.kept;
  told.append(list, on);
}

async function run(button) {
  const { passkey, options, send, csrf, next, confirm } = button.dataset;
  try {
    const asked = await post(options, csrf, {});
    if (passkey === "use") {
      await post(send, csrf, await sign(asked));
      window.location.assign(next);
      return;
    }
    const name = document.getElementById("key-name").value;
    const done = await post(send, csrf, { credential: await create(asked), name });
    if (done.recovery_codes.length) {
      showCodes(done.recovery_codes, next, button.dataset);
    } else {
      window.location.assign(next);
    }
  } catch (error) {
    if (error.code === "confirmation_needed" && confirm) {
      window.location.assign(confirm);
      return;
    }
    tell(error.message);
  }
}

for (const button of document.querySelectorAll("[data-passkey]")) {
  button.addEventListener("click", () => run(button));
}
