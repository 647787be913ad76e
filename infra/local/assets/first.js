// Copy buttons beside every command and every value worth copying. Without this file the page is still all there.

const spoken = document.createElement("p");
spoken.className = "visually-hidden";
spoken.setAttribute("role", "status");
document.body.append(spoken);

async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    // On plain http from another machine there is no clipboard object; the old command still works on a selection.
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

function addButton(place, code, what) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${what}`);
  button.addEventListener("click", async () => {
    button.textContent = spoken.textContent = (await copy(code)) ? "Copied" : "Press Ctrl + C";
    setTimeout(() => {
      button.textContent = "Copy";
      spoken.textContent = "";
    }, 2000);
  });
  place.append(button);
}

for (const figure of document.querySelectorAll("figure")) {
  const caption = figure.querySelector("figcaption");
  const what = caption.textContent;
  // The caption names the command for screen readers; the button's own words do not belong to that name.
  caption.replaceChildren(Object.assign(document.createElement("span"), { id: caption.id, textContent: what }));
  caption.removeAttribute("id");
  addButton(caption, figure.querySelector("code"), what);
}
for (const code of document.querySelectorAll("[data-copy]")) addButton(code.parentElement, code, code.dataset.copy);
