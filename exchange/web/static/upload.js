// Sends files in pieces (tus 1.0, tus.io/protocols/resumable-upload), so that one can pause, and go on after a reload, a lost
// connection or a restart of the exchange: it says how much has arrived, and nothing of that is sent again.
"use strict";

(() => {
  const PIECE = 8 << 20;
  const form = document.getElementById("send");
  const input = document.getElementById("files");
  const list = document.getElementById("sending");
  const say = form.dataset;
  const known = new Set(say.known.split(" ")); // the files of the listing; what was removed begins anew
  let open = 0;

  class SignedOut extends Error {}

  // A reply that says nothing of the upload: without the session of this page every one does.
  function signedIn(reply) {
    if (reply.redirected || [400, 401, 403].includes(reply.status)) throw new SignedOut(say.out);
    return reply;
  }

  // What a header holds; a page of signing in has none.
  function told(text) {
    if (text === null) throw new SignedOut(say.out);
    return text;
  }

  const passes = (status) => status === 409 || status === 429 || status >= 500; // tried again
  const id = (address) => address.split("/").pop();
  // A file is the same one where name, size and time of change are; remembered until all of it has arrived.
  const key = (file) => `upload ${form.dataset.uploads} ${file.name} ${file.size} ${file.lastModified}`;
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));

  function remembered(file) {
    try {
      const address = localStorage.getItem(key(file));
      return address && known.has(id(address)) ? address : null;
    } catch {
      return null; // The browser keeps nothing: the file begins anew.
    }
  }

  function remember(file, address) {
    if (address) known.add(id(address));
    try {
      if (address) localStorage.setItem(key(file), address);
      else localStorage.removeItem(key(file));
    } catch {
      // As above.
    }
  }

  function amount(bytes) {
    const units = ["B", "kB", "MB", "GB"];
    let at = 0;
    while (bytes >= 1000 && at < 3) { bytes /= 1000; at += 1; }
    return `${bytes.toFixed(at ? 1 : 0)} ${units[at]}`;
  }

  function line(file) {
    const item = document.createElement("li");
    const name = document.createElement("p");
    name.append(Object.assign(document.createElement("bdi"), { textContent: file.name }));
    const bar = Object.assign(document.createElement("progress"), { max: Math.max(file.size, 1), value: 0 });
    bar.setAttribute("aria-label", file.name);
    const told = Object.assign(document.createElement("p"), { className: "meta" });
    const button = Object.assign(document.createElement("button"), { type: "button" });
    label(button, say.pause, file);
    item.append(name, bar, told, button);
    list.append(item);
    return { item, bar, told, button };
  }

  function label(button, text, file) {
    button.textContent = text;
    button.setAttribute("aria-label", `${text} ${file.name}`);
  }

  async function begin(file) {
    const name = btoa(String.fromCharCode(...new TextEncoder().encode(file.name.slice(-150))));
    const reply = await fetch(form.dataset.uploads, {
      method: "POST",
      headers: { "X-CSRF-Token": say.csrf, "Tus-Resumable": "1.0.0", "Upload-Length": file.size, "Upload-Metadata": `filename ${name}` },
    });
    if (signedIn(reply).ok) return told(reply.headers.get("Location"));
    throw passes(reply.status) ? new TypeError() : new Error(await reason(reply));
  }

  async function reason(reply) {
    try {
      const told = await reply.json();
      return `${told.detail} ${told.hint || ""}`;
    } catch {
      return say.refused;
    }
  }

  // How much has arrived; -1 where the exchange no longer knows the upload.
  async function arrived(address) {
    const reply = await fetch(address, { method: "HEAD", headers: { "Tus-Resumable": "1.0.0" } });
    if (signedIn(reply).ok) return Number(told(reply.headers.get("Upload-Offset")));
    if ([404, 410].includes(reply.status)) return -1;
    throw passes(reply.status) ? new TypeError() : new Error(say.refused);
  }

  function send(address, file, offset, state) {
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      request.open("PATCH", address);
      for (const [name, text] of [["X-CSRF-Token", say.csrf], ["Tus-Resumable", "1.0.0"], ["Upload-Offset", offset], ["Content-Type", "application/offset+octet-stream"]]) request.setRequestHeader(name, text);
      request.upload.onprogress = (event) => state.moved(offset + event.loaded);
      request.onload = () => {
        try {
          signedIn({ status: request.status, redirected: request.responseURL !== new URL(address, location.href).href });
          if (request.status === 204) done(Number(told(request.getResponseHeader("Upload-Offset"))));
          else throw passes(request.status) ? new TypeError() : new Error(say.refused); // 409: another offset
        } catch (error) {
          failed(error);
        }
      };
      request.onerror = request.onabort = () => failed(new TypeError());
      state.request = request;
      request.send(file.slice(offset, offset + PIECE));
    });
  }

  async function upload(file) {
    const shown = line(file);
    if (file.size > Number(say.largest)) {
      shown.told.textContent = say.large;
      shown.button.remove();
      return;
    }
    const state = { paused: false, request: null, from: 0, since: 0, moved: null };
    state.moved = (bytes) => {
      shown.bar.value = bytes;
      const seconds = (performance.now() - state.since) / 1000;
      const speed = (bytes - state.from) / Math.max(seconds, 0.001);
      const left = speed > 0 ? Math.ceil((file.size - bytes) / speed) : 0;
      if (!state.paused) shown.told.textContent = `${say.sending}: ${amount(bytes)} / ${amount(file.size)}, ${amount(speed)}/s, ${left} s ${say.left}`;
    };
    shown.button.addEventListener("click", () => {
      state.paused = !state.paused;
      label(shown.button, state.paused ? say.resume : say.pause, file);
      if (!state.paused) return;
      shown.told.textContent = say.waiting;
      if (state.request) state.request.abort();
    });
    open += 1;
    try {
      await pieces(file, shown, state);
      remember(file, null);
      shown.told.textContent = say.arrived;
      shown.bar.value = shown.bar.max;
    } catch (error) {
      shown.told.textContent = error.message || say.refused;
      shown.told.className = "error";
      shown.item.dataset.failed = "";
    }
    shown.button.remove();
    open -= 1;
    if (open === 0 && !list.querySelector("[data-failed]")) {
      form.reset(); // some browsers keep the choice over a reload, and it would be sent again
      location.reload();
    }
  }

  async function pieces(file, shown, state) {
    let address = remembered(file), offset = 0, tries = 0;
    for (;;) {
      while (state.paused) await wait(100);
      try {
        if (address) offset = await arrived(address);
        if (!address || offset < 0) {
          address = await begin(file);
          remember(file, address);
          offset = 0;
        }
        if (file.size === offset) return;
        state.from = offset;
        state.since = performance.now();
        state.moved(offset);
        while (offset < file.size && !state.paused) {
          offset = await send(address, file, offset, state);
          tries = 0;
        }
        if (offset === file.size) return;
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;
        if (state.paused) continue;
        shown.told.textContent = say.again;
        tries += 1;
        await wait(Math.min(500 * 2 ** tries, 10_000));
      }
    }
  }

  function take(files) {
    for (const file of files) upload(file);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    take(input.files);
  });
  input.addEventListener("change", () => take(input.files));
  if (input.files.length) take(input.files); // chosen before this script was here
  form.querySelector("button").hidden = true;
  for (const kind of ["dragenter", "dragover"]) {
    form.addEventListener(kind, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) form.addEventListener(kind, () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
  window.addEventListener("beforeunload", (event) => { if (open) event.preventDefault(); });
})();
