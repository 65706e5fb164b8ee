// The page of a campaign: waiting, tapping in waves, and the results.
Object.assign(FACES, {
  loading: {},
  countdown: {},
  running: {},
  won: {},
  missed: {},
  sold_out: {},
  enough: {},
  between: {},
  paused: { ways: ["look_again"] },
  over: { isInside: true }
});
Object.assign(WAYS, { look_again: start, again: start });
const TICK_MS = 200;
const TAP_MS_MIN = 250;
const LATE_LOOKS_MAX = 5;
const campaignId = location.pathname.split("/")[2];
const home = "/v1/campaigns/" + campaignId;

// round: the last look; what an earlier one is answered is not wanted any more.
// ends: wave -> what this user need not tap any more for. won: wave -> shares. trouble: a face that is none of a wave's.
const state = {
  round: 0, campaign: null, shown: "loading", trouble: null, problem: {}, ends: {}, won: {}, last: null, hint: "",
  isAsking: false, isQueueing: false, notBeforeMs: 0, lookTimer: 0, lateLooks: 0
};

// What is going on by the clock: the face, the wave that it is about, and the one that is waited for.
function moment() {
  const { campaign } = state;
  if (state.trouble || !campaign) {
    return { face: state.trouble || "loading" };
  }
  const now = nowMs();
  const { waves } = campaign;
  const next = waves.find((wave) => wave.starts_at_ms > now);
  if (campaign.state === "over" || now >= waves[waves.length - 1].ends_at_ms) {
    return { face: "over" };
  }
  if (campaign.state === "paused") {
    return { face: "paused", next };
  }
  const wave = waves.find((one) => one.starts_at_ms <= now && now < one.ends_at_ms);
  if (wave) {
    return { face: state.ends[wave.wave] || (state.isQueueing ? "queueing" : "running"), wave, next };
  }
  return { face: now < waves[0].starts_at_ms ? "countdown" : "between", next };
}

// Each look brings the waves anew, so that their numbers say which is which.
function isGoingOn(number) {
  const { wave } = moment();
  return Boolean(wave) && wave.wave === number;
}

// Shows the moment if it is another one than before, and the seconds in any case.
function tick() {
  const { face, wave, next } = moment();
  const shown = face + (wave ? wave.wave : "");
  if (shown !== state.shown) {
    const hasEnded = /^(running|won|missed|sold_out|enough|queueing)/.test(state.shown) && (face === "between" || face === "over");
    state.shown = shown;
    state.last = null;
    state.hint = "";
    paint();
    moveFocus();
    // The counts, what was won, and whether the wave goes on after all; not everybody at once.
    lookIn(hasEnded ? 300 + Math.random() * 2500 : waitMs(face, next));
  }
  const untilMs = (face === "countdown" || face === "between") && next ? next.starts_at_ms : 0;
  write("timer", untilMs ? countdown(untilMs) : "");
}

// When to look again by itself: 0, never. Nobody asks at the very moment in which a wave starts.
function waitMs(face, next) {
  if (face === "paused") {
    return 5000 + Math.random() * 3000;
  }
  if (face === "over" && !state.campaign.is_settled && state.lateLooks < LATE_LOOKS_MAX) {
    state.lateLooks += 1;
    return 3000 * state.lateLooks + Math.random() * 3000;
  }
  return next && (face === "countdown" || face === "between") && next.starts_at_ms - nowMs() > 90000 ? 30000 + Math.random() * 15000 : 0;
}

function lookIn(ms) {
  clearTimeout(state.lookTimer);
  // A page that nobody sees looks when it is seen again.
  state.lookTimer = ms ? setTimeout(() => document.hidden || look(), ms) : 0;
}

async function start() {
  state.trouble = caller.token ? null : "no_token";
  tick();
  if (caller.token) {
    await look();
  }
}

async function look() {
  const round = state.round += 1;
  const waiting = { onCrowd: () => {}, isWanted: () => round === state.round };
  const [campaign, wins] = await Promise.all([
    ask("GET", home, waiting), ask("GET", home + "/wins/" + encodeURIComponent(caller.user), waiting)
  ]);
  if (campaign.face === "left") {
    return;
  }
  if (campaign.status === 200) {
    setClock(campaign);
    state.campaign = campaign.body;
    if (wins.status === 200) {
      wins.body.waves.forEach(({ wave, shares }) => keep(wave, shares));
    }
  } else if (campaign.face !== "stalled" || !state.campaign) {
    fail(campaign);
  }
  tick();
  paint();
  const { face, next } = moment();
  lookIn(waitMs(face, next));
}

function fail(answer) {
  state.trouble = faceOf(answer);
  state.problem = answer.body || {};
}

// Some shares of a wave. The same share may come twice, once with the tap and once with a look.
function keep(wave, shares) {
  const all = state.won[wave] = state.won[wave] || new Map();
  shares.forEach((share) => all.set(share.packet_id, share));
  if (all.size >= state.campaign.wave_wins_max) {
    state.ends[wave] = "won";
  }
}

async function tap() {
  const { face, wave } = moment();
  if (face !== "running" || state.isAsking) {
    return;
  }
  if (nowMs() < state.notBeforeMs) {
    state.hint = say("slow_down");
    paint();
    return;
  }
  state.isAsking = true;
  const answer = await ask("POST", home + "/grabs", {
    body: caller.admission ? { admission: caller.admission } : undefined,
    onCrowd: () => {
      state.isQueueing = true;
      tick();
    },
    // It is asked again only while the wave goes on. What has been decided is taken at any time.
    isWanted: (answer) => (answer && answer.status === 200) || isGoingOn(wave.wave)
  });
  state.isAsking = state.isQueueing = false;
  state.hint = "";
  state.notBeforeMs = nowMs() + Math.max(TAP_MS_MIN, state.campaign.interval_ms);
  if (answer.status === 200) {
    told(answer);
  } else if (answer.face !== "left" && answer.face !== "stalled") {
    fail(answer);
  }
  tick();
  paint();
}

// What a tap was answered.
function told(answer) {
  const { outcome, wave, shares, again_at_ms: againAtMs } = answer.body;
  setClock(answer);
  if (outcome === "claimed" || outcome === "already_claimed") {
    keep(wave, shares);
    if (outcome === "already_claimed") {
      state.ends[wave] = "won";
    }
    if (isGoingOn(wave)) {
      [state.last] = shares;
    }
  } else if (outcome === "missed" || outcome === "sold_out" || outcome === "enough") {
    state.ends[wave] = outcome;
  } else if (outcome === "too_soon") {
    state.notBeforeMs = againAtMs;
    state.hint = say("slow_down");
  } else if (outcome === "paused" || outcome === "over") {
    state.campaign.state = outcome;
  } else {
    // By the server's clock no wave is going on.
    lookIn(500 + Math.random() * 1000);
  }
}

function paint() {
  const { campaign } = state;
  const { face, wave, next } = moment();
  document.body.dataset.look = FACES[face].isInside ? "inside" : "cover";
  paintFace(face, valuesOf(face, wave, next));
  const isRaining = face === "running";
  letItRain(isRaining, tap);
  const hadFocus = document.activeElement === find("grab");
  find("grab").hidden = !isRaining;
  if (isRaining && document.activeElement === find("title") || hadFocus && !isRaining) {
    (isRaining ? find("grab") : find("title")).focus({ preventScroll: true });
  }
  if (campaign) {
    find("heading").textContent = campaign.name;
    find("kind").textContent = say("waves", { waves: campaign.waves.length, count: campaign.count });
  } else {
    find("heading").textContent = say("title");
  }
  find("share").hidden = isRaining || !campaign;
  find("proof").hidden = face !== "over" || !campaign.is_settled;
  paintWon(face);
}

function valuesOf(face, wave, next) {
  const { campaign, last, hint, problem } = state;
  if (face === "running") {
    return last
      ? { title: say("won.title"), amount: worth([last]), coupon: last.coupon, text: say("won.more") }
      : { text: hint || say("running.text") };
  }
  if (face === "over") {
    return { text: say("over.text", { claimed: campaign.claimed_count, count: campaign.count }) };
  }
  const values = { time: problem.until_ms ? dayAndTime(problem.until_ms) : "" };
  if (wave && face !== "queueing") {
    const after = next ? say("next", { time: clock(next.starts_at_ms, { second: "2-digit" }) }) : say("last");
    values.text = (face === "won" ? say("won.all") : say(face + ".text")) + (language === "zh" ? "" : " ") + after;
  }
  if (face === "won") {
    const shares = [...state.won[wave.wave].values()];
    values.amount = worth(shares);
    values.coupon = shares.map((share) => share.coupon).find(Boolean);
  }
  return values;
}

// Shares in words: money and points are added up, a coupon has its name.
function worth(shares) {
  const sums = new Map();
  shares.forEach((share) => {
    const key = share.coupon ? share.coupon.coupon_id : share.asset;
    const sum = sums.get(key) || Object.assign({}, share, { amount_fen: 0 });
    sum.amount_fen += share.amount_fen;
    sums.set(key, sum);
  });
  return [...sums.values()].map((sum) => (sum.coupon ? sum.coupon.name : money(sum.amount_fen, sum.scale, sum.asset))).join(" + ");
}

function paintWon(face) {
  const waves = Object.keys(state.won).filter((wave) => state.won[wave].size);
  const rows = waves.map((wave) => rowOf(say("mine.wave", { wave }), worth([...state.won[wave].values()])));
  if (waves.length > 1) {
    const all = [].concat(...waves.map((wave) => [...state.won[wave].values()]));
    rows.push(rowOf(say("mine.total"), worth(all)));
  }
  find("mine").hidden = face === "running" || !(waves.length || face === "over");
  fill(find("won-rows"), ...(rows.length ? rows : [make("li", "", say("mine.none"))]));
}

function rowOf(label, amount) {
  return make("li", "", make("span", "", label), make("span", "what", amount));
}

find("grab").addEventListener("click", tap);
find("language").addEventListener("click", () => {
  setLanguage(language === "zh" ? "en" : "zh");
  history.replaceState(null, "", location.pathname + "?lang=" + language);
  paint();
});
window.addEventListener("online", () => {
  if (state.trouble === "offline") {
    start();
  }
});
// A phone that slept may have the wrong time.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && caller.token && !state.trouble) {
    look();
  }
});
takeCaller();
watchCaller();
prepareSharing();
prepareProof(home + "/proof", () => state.campaign.commitment, (proof) => {
  const lines = ["hongbao campaign 1", proof.campaign_id, proof.odds_millionths, proof.seed];
  proof.waves.forEach(({ wave, buckets }) => buckets.forEach((part) => {
    lines.push([wave, part.asset || "-", part.packet_id, part.commitment].join(" "));
  }));
  return lines;
});
setLanguage(language);
paint();
start();
setInterval(tick, TICK_MS);
