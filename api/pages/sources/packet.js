// The page of one packet: sealed, opening, and one of the ends.
Object.assign(FACES, {
  sealed: {},
  opening: {},
  won: { isInside: true },
  already: { isInside: true },
  coupon: { isInside: true },
  sold_out: { ways: ["see_list"] },
  expired: { ways: ["see_list"] },
  retracted: { ways: ["look_again"] },
  not_arrived: { ways: ["look_again"] }
});
Object.assign(WAYS, { see_list: seeList, look_again: start, again });
const ENDS = { exhausted: "sold_out", expired: "expired", retracted: "retracted" };
const TURN_MS = 700;
const packetId = location.pathname.split("/")[2];
const home = "/v1/packets/" + packetId;

// round: what was begun last; whatever was begun before it is not wanted any more. own: the user's share.
const state = { round: 0, face: "sealed", packet: null, own: null, problem: {}, hasTapped: false, isListOpen: false };

function begin() {
  const round = state.round += 1;
  return () => round === state.round;
}

function show(face, problem) {
  state.face = face;
  state.problem = problem || {};
  paint();
  moveFocus();
}

function paint() {
  const { face, packet } = state;
  const isInside = Boolean(FACES[face].isInside || state.isListOpen);
  document.body.dataset.look = isInside ? "inside" : "cover";
  paintFace(face, valuesOf(face), !state.isListOpen);
  const button = find("open");
  const isTurning = face === "opening" || face === "queueing";
  button.hidden = !(isTurning || face === "sealed");
  button.setAttribute("aria-disabled", String(isTurning));
  button.setAttribute("aria-label", say("open.name"));
  if (packet) {
    const name = packet.sender_display_name || masked(packet.sender);
    dressAvatar(find("avatar"), packet.sender, name);
    find("sender").textContent = say("from", { name });
    find("heading").textContent = packet.greeting || say("greeting");
    find("kind").textContent = say("kind." + kindOf(packet));
    find("share").hidden = packet.recipients.length > 0;
    find("proof").hidden = !ENDS[packet.state];
  } else {
    find("heading").textContent = say("greeting");
  }
  find("list").hidden = !isInside || !packet;
  paintClaims();
}

function kindOf(packet) {
  if (packet.purpose === "transfer") {
    return "transfer";
  }
  return packet.recipients.length === 1 ? "exclusive" : packet.split;
}

// What the texts of a face need.
function valuesOf(face) {
  const { packet, own, problem } = state;
  if (face === "coupon") {
    return { coupon: own.coupon, text: say("coupons") };
  }
  if (FACES[face].isInside) {
    return { amount: money(own.amount_fen, packet.scale, packet.asset), text: say("wallet") };
  }
  const atMs = problem.until_ms || (packet && packet.arrives_at_ms);
  return { time: atMs ? dayAndTime(atMs) : "" };
}

// Looks, and claims nothing. The cover can be tapped meanwhile.
async function start() {
  const isWanted = begin();
  state.hasTapped = state.isListOpen = false;
  if (!caller.token) {
    show("no_token");
    return;
  }
  show("sealed");
  const answer = await look(isWanted);
  if (answer.face === "left" || answer.face === "stalled") {
    return;
  }
  if (answer.status !== 200) {
    show(faceOf(answer), answer.body);
  } else if (state.packet.own_amount_fen !== null) {
    await showOwn(isWanted);
  } else if (ENDS[state.packet.state]) {
    show(ENDS[state.packet.state]);
  } else {
    paint();
    noteView(state.packet);
  }
}

async function look(isWanted) {
  const answer = await ask("GET", home, { onCrowd: () => {}, isWanted });
  if (answer.status === 200) {
    state.packet = answer.body;
  }
  return answer;
}

// Once somebody has claimed, it makes no difference who has seen a packet.
function noteView(packet) {
  if (packet.purpose === "packet" && packet.claimed_count === 0 && packet.sender !== caller.user) {
    // Whatever is done meanwhile: it has been seen.
    ask("POST", home + "/views", { onCrowd: () => {}, isWanted: () => true });
  }
}

// The share that the user got before, however long ago. While the packet is open, only a repeated claim says that the
// share is as safe as the packet's sender has asked for.
async function showOwn(isWanted) {
  const options = { onCrowd: () => {}, isWanted };
  const answer =
    state.packet.state === "open"
      ? await ask("POST", home + "/claims", options)
      : await ask("GET", home + "/claims/" + encodeURIComponent(caller.user), options);
  if (answer.status === 200) {
    take(answer.body, false);
  } else if (answer.face !== "left") {
    show(faceOf(answer), answer.body);
  }
}

// isNew: it came with this tap, even if its first answer was lost.
function take(result, isNew) {
  state.own = result;
  show(result.coupon ? "coupon" : isNew ? "won" : "already");
  loadClaims();
}

function again() {
  return state.hasTapped ? claim() : start();
}

async function claim() {
  const isWanted = begin();
  const beganMs = performance.now();
  state.hasTapped = true;
  show("opening");
  const waiting = { onCrowd: () => show("queueing"), isWanted };
  const answer = await ask("POST", home + "/claims", waiting);
  if (answer.face === "left") {
    return;
  }
  if (answer.status !== 200) {
    show(faceOf(answer), answer.body);
    return;
  }
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
    await pause(TURN_MS - (performance.now() - beganMs));
  }
  const result = answer.body;
  if (!state.packet) {
    const found = await ask("GET", home, waiting);
    if (found.status !== 200) {
      if (found.face !== "left") {
        show(faceOf(found), found.body);
      }
      return;
    }
    state.packet = found.body;
  }
  if (result.outcome === "claimed" || result.outcome === "already_claimed") {
    take(result, result.outcome === "claimed" || answer.isRepeat);
  } else {
    show(result.outcome);
  }
  await look(isWanted);
  paint();
}

function seeList() {
  state.isListOpen = true;
  paint();
  find("list-heading").focus();
  loadClaims();
}

find("open").addEventListener("click", () => {
  if (state.face === "sealed") {
    claim();
  }
});
find("language").addEventListener("click", () => {
  setLanguage(language === "zh" ? "en" : "zh");
  history.replaceState(null, "", location.pathname + "?lang=" + language);
  paint();
});
window.addEventListener("online", () => {
  if (state.face === "offline") {
    again();
  }
});
takeCaller();
watchCaller();
prepareSharing();
prepareProof(home + "/proof", () => state.packet.commitment, (proof) => [
  "hongbao commitment 1", proof.packet_id, proof.split, proof.total_fen, proof.count, proof.min_fen, proof.max_fen, proof.seed
]);
watchClaims();
setLanguage(language);
start();
