// The server's clock, kept by a clock of the browser that nobody can set.
let aheadMs = 0;

function setClock(answer) {
  if (answer.body && answer.body.now_ms) {
    aheadMs = answer.body.now_ms - answer.halfwayMs;
  }
}

function nowMs() {
  return performance.now() + aheadMs;
}

// How long until then: 3:07, or 2:03:07.
function countdown(untilMs) {
  const seconds = Math.max(0, Math.ceil((untilMs - nowMs()) / 1000));
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60];
  if (seconds >= 3600) {
    parts.unshift(Math.floor(seconds / 3600));
  }
  return parts.map((part, place) => (place ? String(part).padStart(2, "0") : String(part))).join(":");
}
