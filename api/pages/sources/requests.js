// Requests that are repeated until they are answered. A repeat never takes a second share, so it is always safe.
const ANSWER_MS_MAX = 12000;
const LOST_MAX = 4;
const CROWDED_MAX = 20;

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function askOnce(method, path, body) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), ANSWER_MS_MAX);
  const askedMs = performance.now();
  const headers = { authorization: "Bearer " + caller.token };
  if (body) {
    headers["content-type"] = "application/json";
  }
  try {
    const response = await fetch(path, {
      method, headers, body: body && JSON.stringify(body), signal: stop.signal,
      cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer"
    });
    const seconds = Number(response.headers.get("retry-after") || 1);
    const halfwayMs = (askedMs + performance.now()) / 2;
    return { status: response.status, body: await response.json(), waitMs: 1000 * (seconds > 0 ? seconds : 1), halfwayMs };
  } catch (error) {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

// isRepeat: an answer to an earlier try was lost.
// An answer, or only a face if there is none: "offline", "stalled", "fault", or "left" if nobody waits for it any more.
// isWanted(answer): whether somebody does; without an answer, whether to ask again.
async function ask(method, path, { body, onCrowd, isWanted }) {
  let lost = 0;
  let crowded = 0;
  let isRepeat = false;
  for (;;) {
    const answer = await askOnce(method, path, body);
    if (!isWanted(answer)) {
      return { face: "left" };
    }
    if (answer && (answer.status === 503 || answer.status === 429)) {
      crowded += 1;
      lost = 0;
      if (crowded > CROWDED_MAX) {
        return { face: "stalled" };
      }
      onCrowd();
      // No earlier than asked, and not all at once.
      await pause(answer.waitMs + Math.random() * (500 + answer.waitMs / 2));
    } else if (answer && answer.status < 500) {
      return Object.assign(answer, { isRepeat });
    } else {
      lost += 1;
      isRepeat = true;
      if (lost > LOST_MAX || navigator.onLine === false) {
        return { face: answer ? "fault" : "offline" };
      }
      await pause((0.5 + Math.random() / 2) * 500 * 2 ** lost);
    }
    if (!isWanted()) {
      return { face: "left" };
    }
  }
}
