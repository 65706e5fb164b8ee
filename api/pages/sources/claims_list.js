// Who got what, page by page, while the reader scrolls.
const PAGE_SIZE = 100;
const claims = { all: [], slots: new Set(), next: null, isWhole: false, isLoading: false, hasFailed: false };

async function loadClaims() {
  if (claims.isLoading || claims.isWhole) {
    return;
  }
  claims.isLoading = true;
  const after = claims.next ? "&after=" + encodeURIComponent(claims.next) : "";
  const path = home + "/claims?limit=" + PAGE_SIZE + after;
  const answer = await ask("GET", path, { onCrowd: () => {}, isWanted: () => true });
  claims.isLoading = false;
  claims.hasFailed = answer.status !== 200;
  if (!claims.hasFailed) {
    const fresh = answer.body.claims.filter((claim) => !claims.slots.has(claim.slot));
    fresh.forEach((claim) => claims.slots.add(claim.slot));
    claims.all.push(...fresh);
    claims.next = answer.body.next;
    claims.isWhole = !claims.next;
  }
  paintClaims();
}

// The rows again only if they must change: because of the language, or because it is known by now who was the luckiest.
function paintClaims() {
  const { packet } = state;
  if (!packet) {
    return;
  }
  const best = packet.luckiest ? packet.luckiest.user_id : "";
  const rows = find("rows");
  const look = language + best;
  if (rows.dataset.painted !== look) {
    fill(rows);
    rows.dataset.painted = look;
  }
  claims.all.slice(rows.children.length).forEach((claim) => rows.append(rowOf(claim, claim.user_id === best)));
  find("list-heading").textContent = summary(packet);
  find("more").hidden = claims.isWhole || !claims.all.length && !claims.hasFailed;
  find("more-button").textContent = say(claims.hasFailed ? "list.failed" : "list.more");
}

function rowOf(claim, isBest) {
  const { packet } = state;
  const shown = claim.display_name || claim.masked_id;
  const name = make("bdi", "name", shown);
  const who = make("p", "who", name);
  if (claim.user_id === caller.user) {
    who.append(" ", make("span", "you", say("you")));
  }
  const amount = claim.amount_fen === null ? say("hidden_amount") : money(claim.amount_fen, packet.scale, packet.asset);
  const what = make("p", "what", amount);
  if (isBest) {
    what.append(" ", make("span", "best", say("best")));
  }
  const avatar = dressAvatar(make("span"), claim.user_id, shown);
  avatar.setAttribute("aria-hidden", "true");
  const row = make("li", "", avatar, who, make("p", "when", clock(claim.claimed_at_ms, { second: "2-digit" })), what);
  row.dataset.slot = claim.slot;
  return row;
}

function summary(packet) {
  if (claims.isWhole && !claims.all.length) {
    return say("list.none");
  }
  if (packet.state === "exhausted" && claims.isWhole && claims.all.length) {
    const tookMs = claims.all[claims.all.length - 1].claimed_at_ms - packet.created_at_ms;
    return say("list.all", { count: packet.count, time: duration(tookMs) }) + sums(packet);
  }
  return say("list.some", { claimed: packet.claimed_count, count: packet.count }) + sums(packet);
}

function sums(packet) {
  if (packet.claimed_fen === null) {
    return "";
  }
  const [claimed, total] = [packet.claimed_fen, packet.total_fen].map((fen) => money(fen, packet.scale, packet.asset));
  return (language === "zh" ? "，" : ", ") + say("list.sum", { claimed, total });
}

function duration(ms) {
  const seconds = Math.max(1, Math.round(ms / 1000));
  if (seconds < 60) {
    return say("seconds", { seconds });
  }
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? say("minutes", { minutes, seconds: seconds % 60 })
    : say("hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

function watchClaims() {
  find("more-button").addEventListener("click", loadClaims);
  if (window.IntersectionObserver) {
    new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting) && !claims.hasFailed) {
        loadClaims();
      }
    }, { rootMargin: "300px" }).observe(find("more"));
  }
}
