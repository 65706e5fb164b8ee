// The page's address for others: as a link, and as a code that the server draws. Neither has a token.
function preparePanel(name, onOpen) {
  const button = find(name + "-button");
  button.addEventListener("click", () => {
    const panel = find(name + "-panel");
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden) {
      onOpen(panel);
    }
  });
}

function prepareSharing() {
  const address = location.origin + location.pathname;
  find("share-link").textContent = address;
  preparePanel("share", () => {
    const code = find("share-code");
    code.alt = say("share.code");
    code.src = location.pathname + "/qr.svg";
  });
  find("share-copy").addEventListener("click", (event) => copyText(address, event.currentTarget));
}
