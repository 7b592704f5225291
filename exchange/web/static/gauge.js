// What the privacy budget gives, while it is typed; and finding a column of a wide table by its name.
"use strict";

(() => {
  const form = document.getElementById("privacy");
  const gauge = document.getElementById("gauge");
  let waiting = 0, asked = 0;

  async function ask() {
    const turn = ++asked;
    try {
      const reply = await fetch(form.dataset.gauge, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (turn !== asked) return;
      if (reply.redirected || [400, 401, 403].includes(reply.status)) { // another session than the page's, or none
        gauge.replaceChildren(Object.assign(document.createElement("p"), { className: "notice", textContent: form.dataset.out }));
        return;
      }
      if (!reply.ok) return;
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      gauge.replaceChildren(...page.body.childNodes);
    } catch {
      // Without a connection the button still works.
    }
  }

  form.addEventListener("input", (event) => {
    if (event.target.type === "search") return;
    clearTimeout(waiting);
    waiting = setTimeout(ask, 400);
  });

  for (const box of document.querySelectorAll("[data-finds]")) {
    box.closest(".only-script").hidden = false;
    const table = document.getElementById(box.dataset.finds);
    box.addEventListener("input", () => {
      const word = box.value.toLowerCase();
      for (const group of table.querySelectorAll("details")) {
        let shown = 0;
        for (const column of group.querySelectorAll("[data-column]")) {
          column.hidden = !column.dataset.column.toLowerCase().includes(word);
          shown += column.hidden ? 0 : 1;
        }
        group.hidden = shown === 0;
        if (word) group.open = true;
      }
    });
  }
})();
