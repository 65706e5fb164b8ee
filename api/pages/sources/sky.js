// Falling packets. They are for thumbs; everybody else has the button, which does the same.
const DROPS_MAX = 9;
const DROP_EVERY_MS = 380;
const COLUMNS = 4;
const sky = { timer: 0, column: 0 };

function letItRain(isRaining, onTap) {
  if (!isRaining) {
    clearInterval(sky.timer);
    sky.timer = 0;
    fill(find("sky"));
  } else if (!sky.timer && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    sky.timer = setInterval(() => drop(onTap), DROP_EVERY_MS);
    drop(onTap);
  }
}

function drop(onTap) {
  const all = find("sky");
  if (document.hidden || all.children.length >= DROPS_MAX) {
    return;
  }
  // Never two in one column one after the other, so that a thumb hits the one that it means.
  sky.column = (sky.column + 1 + Math.floor(Math.random() * (COLUMNS - 1))) % COLUMNS;
  const packet = make("div", "drop", make("i", ""));
  packet.style.left = "calc((100% - 72px) * " + (sky.column + Math.random() / 2) / (COLUMNS - 0.5) + ")";
  packet.style.animationDuration = 3 + Math.random() * 1.5 + "s";
  packet.addEventListener("animationend", () => packet.remove());
  packet.addEventListener("pointerdown", () => {
    packet.classList.add("hit");
    onTap();
  }, { once: true });
  all.append(packet);
}
