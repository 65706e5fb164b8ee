// Every end has a face: its title, its text, and a way on. A page adds its own faces to these.
const FACES = {
  queueing: {},
  stalled: { ways: ["again"] },
  offline: { ways: ["again"] },
  fault: { ways: ["again"] },
  no_token: { ways: ["sign_in"], isSigningIn: true },
  token_over: { ways: ["sign_in"], isSigningIn: true },
  not_allowed: { ways: ["sign_in"] },
  frozen: { ways: ["again"] },
  limit_reached: { ways: ["again"] },
  not_invited: { ways: ["look_again"] },
  unknown: { ways: ["look_again"] }
};
const WAYS = { share_copy: (button) => copyText(location.origin + location.pathname, button) };
// Codes of the API whose face has another name. The other codes are names of faces, or nothing that a user can mend.
const BY_CODE = {
  unauthorized: "token_over", forbidden: "not_allowed", account_frozen: "frozen",
  unknown_packet: "unknown", unknown_campaign: "unknown", not_found: "unknown"
};

// The face of an answer that is no success.
function faceOf(answer) {
  const { code } = answer.body || {};
  return answer.face || BY_CODE[code] || (FACES[code] ? code : "fault");
}

// Shows a face. values: what its texts need, or texts in place of its own. hasWays: without, nothing is offered.
function paintFace(face, values, hasWays = true) {
  const { ways = [], isSigningIn } = FACES[face];
  document.body.dataset.face = face;
  const textKey = face + ".text" + (isSigningIn && signInAddress() ? "_sign_in" : "");
  write("title", values.title === undefined && WORDS[face + ".title"] ? say(face + ".title", values) : values.title || "");
  write("text", values.text === undefined && WORDS[textKey] ? say(textKey, values) : values.text || "");
  write("amount", values.amount || "");
  paintCoupon(values.coupon);
  const actions = find("actions");
  const offered = hasWays ? ways : [];
  // What is offered already stays, and keeps the focus.
  if (actions.dataset.offered !== offered + language) {
    actions.dataset.offered = offered + language;
    fill(actions, ...offered.map(wayOn));
  }
}

function wayOn(way) {
  if (way === "sign_in") {
    const address = signInAddress();
    if (address) {
      const link = make("a", "way", say("sign_in"));
      link.href = address;
      return link;
    }
    way = "share_copy";
  }
  const button = make("button", "way", say(way.replace("share_", "share.")));
  button.type = "button";
  button.addEventListener("click", () => WAYS[way](button));
  return button;
}

function paintCoupon(coupon) {
  find("coupon").hidden = !coupon;
  if (coupon) {
    write("coupon-name", coupon.name);
    write("coupon-code", coupon.code ? say("coupon.code") + " " + coupon.code : "");
    write("coupon-until", say("coupon.until", { time: clock(coupon.valid_until_ms, { year: "numeric", month: "numeric", day: "numeric" }) }));
  }
}

// What was focused is gone with the face before: a reader goes on at the title.
function moveFocus() {
  if (document.activeElement === document.body || document.activeElement === null || document.activeElement.offsetParent === null) {
    find("title").focus();
  }
}
