"use strict";
// The live storm. The server keeps the points; this page asks for those that it does not have, once per second, and draws them.
(() => {
  const root = document.getElementById("live");
  if (!root) return;
  const texts = JSON.parse(root.dataset.texts);
  const element = (id) => document.getElementById(`live-${id}`);
  const WINDOWS_S = [300, 900, 3600, 21600, 86400];
  const REFRESHES_S = [1, 2, 5, 15, 0];
  const SILENT_S = 3; // beyond the refresh: then the page says that it is blind
  const TICK_MS = 250; // so that the page says so within the five seconds of docs/live.md, also on a busy machine
  const SENTENCE_MS = 10000;
  const ANSWER_MS_MAX = 4000;

  // What is drawn. `of`: the names that are added up. `per`: "second" divides by the time that the point covers.
  const sum = (...names) => ({ of: names, per: "second" });
  const gauge = (name) => ({ of: [name], per: "point" });
  const refused = ["claims.missing", "claims.not_invited", "claims.held", "claims.frozen", "claims.limited"];
  const CHARTS = [
    { id: "claims", unit: "", series: [
      { text: "claimed", color: 1, ...sum("claims.claimed") },
      { text: "already", color: 2, dash: [8, 3], ...sum("claims.already") },
      { text: "empty", color: 3, dash: [3, 3], ...sum("claims.empty") },
      { text: "ended", color: 4, dash: [10, 3, 2, 3], ...sum("claims.expired", "claims.retracted") },
      { text: "not_allowed", color: 5, dash: [2, 4], ...sum(...refused) },
      { text: "busy", color: 6, width: 2, ...sum("claims.busy") },
    ] },
    { id: "latency", unit: " ms", series: [
      { text: "p50", color: 1, ...gauge("p50_ms") },
      { text: "p95", color: 2, dash: [8, 3], ...gauge("p95_ms") },
      { text: "p99", color: 6, dash: [3, 3], ...gauge("p99_ms") },
    ] },
    { id: "grabs", unit: "", series: [
      { text: "grab_won", color: 1, ...sum("grabs.claimed") },
      { text: "grab_already", color: 2, dash: [8, 3], ...sum("grabs.already_claimed") },
      { text: "grab_sold_out", color: 3, dash: [3, 3], ...sum("grabs.sold_out") },
      { text: "grab_missed", color: 4, dash: [10, 3, 2, 3], ...sum("grabs.missed") },
      { text: "grab_other", color: 5, dash: [2, 4], ...sum("grabs.enough", "grabs.too_soon", "grabs.not_started", "grabs.between_waves", "grabs.paused", "grabs.over") },
      { text: "grab_refused", color: 6, width: 2, ...sum("grabs.refused") },
    ] },
    { id: "refusals", unit: "", series: [
      { text: "overloaded", color: 6, ...sum("refused.claims_waiting", "refused.claims_in_flight", "refused.requests_in_flight", "refused.asked_too_soon") },
      { text: "too_many", color: 2, dash: [8, 3], ...sum("refused.rate_user", "refused.rate_address") },
      { text: "turned_away", color: 3, dash: [3, 3], ...sum("refused.connections") },
    ] },
    { id: "lag", unit: " s", series: [{ text: "behind_s", color: 1, ...gauge("lag.seconds") }] },
    { id: "backlog", unit: "", series: [
      { text: "not_booked", color: 1, ...gauge("lag.events") },
      { text: "backlog", color: 2, dash: [8, 3], ...gauge("lag.backlog") },
    ] },
    { id: "batches", unit: "", series: [{ text: "batch", color: 1, of: ["batch.claims"], per: "batch.calls" }] },
  ];

  const state = {
    windowS: choice("window", WINDOWS_S, 300), refreshS: choice("refresh", REFRESHES_S, 1), isPaused: false,
    timer: 0, asking: null, newestMs: 0, knownMs: 0, clockMs: 0, stepMs: 1000, failedAtMs: 0, isSignedOut: false,
    at: [], columns: new Map(), sentenceAtMs: -Infinity,
  };
  // How long the page's updates took, in ms: the last 600. A test reads it.
  window.liveUpdates = { durations: new Float64Array(600), frames: new Float64Array(600), count: 0, ask, newestMs: () => state.newestMs, points: () => state.at.length };

  function choice(name, among, otherwise) {
    const value = Number(new URLSearchParams(location.search).get(name) ?? NaN);
    return among.includes(value) ? value : otherwise;
  }

  // ---- Points -------------------------------------------------------------------------------------------------

  function clear() {
    state.at.length = 0;
    state.columns.clear();
    state.newestMs = state.knownMs = 0;
    charts.forEach((chart) => chart.data.forEach((values) => { values.length = 0; }));
  }

  /** Add columns of new points; drop those that have left the window. */
  function take(answer) {
    const added = answer.at_ms.length;
    state.stepMs = answer.step_ms;
    for (const name of Object.keys(answer.series)) {
      if (!state.columns.has(name)) state.columns.set(name, new Array(state.at.length).fill(isCount(name) ? 0 : null));
    }
    const elapsed = answer.series.elapsed_ms || [];
    for (const [name, column] of state.columns) {
      const values = answer.series[name];
      for (let i = 0; i < added; i += 1) {
        column.push(values ? values[i] : elapsed[i] === null || elapsed[i] === undefined || !isCount(name) ? null : 0);
      }
    }
    for (let i = 0; i < added; i += 1) {
      state.at.push(answer.at_ms[i]);
      if (elapsed[i] !== null && elapsed[i] !== undefined) state.knownMs = answer.at_ms[i];
    }
    if (added) state.newestMs = answer.at_ms[added - 1];
    charts.forEach((chart) => {
      for (let i = state.at.length - added; i < state.at.length; i += 1) {
        chart.data[0].push(state.at[i] / 1000);
        chart.plan.series.forEach((line, place) => chart.data[place + 1].push(valueOf(line, i)));
      }
    });
    let old = 0;
    while (old < state.at.length && state.at[old] < state.newestMs - state.windowS * 1000) old += 1;
    if (old) {
      state.at.splice(0, old);
      state.columns.forEach((column) => column.splice(0, old));
      charts.forEach((chart) => chart.data.forEach((values) => values.splice(0, old)));
    }
  }

  function isCount(name) { return /^(claims|grabs|refused|status|batch)\.|^(requests|persisted)$/.test(name); }

  function valueOf(line, i) {
    const elapsedMs = cell("elapsed_ms", i);
    if (elapsedMs === null) return null;
    let whole = 0;
    for (const name of line.of) {
      const value = cell(name, i);
      if (value === null && !isCount(name)) return null;
      whole += value || 0;
    }
    if (line.per === "second") return (whole * 1000) / elapsedMs;
    if (line.per === "point") return whole;
    const by = cell(line.per, i);
    return by ? whole / by : null;
  }

  function cell(name, i) {
    const column = state.columns.get(name);
    const value = column ? column[i] : undefined;
    return value === undefined ? null : value;
  }

  // ---- Charts -------------------------------------------------------------------------------------------------

  const charts = CHARTS.map((plan) => ({
    plan, box: element(`chart-${plan.id}`), plot: null, isSeen: false, isBehind: true, data: [[], ...plan.series.map(() => [])],
  })).filter((chart) => chart.box);
  const narrow = new Intl.NumberFormat("en", { maximumFractionDigits: 2, notation: "compact" });
  const exact = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "Asia/Shanghai", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const minutes = new Intl.DateTimeFormat("en-GB", { timeZone: "Asia/Shanghai", hour: "2-digit", minute: "2-digit" });

  function build() {
    const style = getComputedStyle(root);
    const read = (name) => style.getPropertyValue(name).trim();
    const ink = read("--chart-ink");
    const grid = { stroke: read("--chart-grid"), width: 1 };
    const font = `${read("--chart-font")} system-ui, sans-serif`;
    for (const chart of charts) {
      if (chart.plot) chart.plot.destroy();
      const { plan } = chart;
      const tell = (value) => (value === null || value === undefined ? "–" : `${exact.format(value)}${plan.unit}`);
      chart.plot = new uPlot({
        ...sizeOf(chart),
        cursor: { sync: { key: "live" }, drag: { x: false, y: false } },
        legend: { live: true },
        scales: { x: { time: true, range: rangeOfTime }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        axes: [
          { stroke: ink, grid, ticks: grid, font, space: 70, values: (_plot, splits) => splits.map((s) => (state.windowS > 900 ? minutes : clock).format(s * 1000)) },
          { stroke: ink, grid, ticks: grid, font, size: widthOf, values: (_plot, splits) => splits.map((value) => `${narrow.format(value)}${plan.unit}`) },
        ],
        series: [
          { label: texts.time, value: (_plot, value) => (value === null ? "–" : clock.format(value * 1000)) },
          ...plan.series.map((line) => ({
            label: texts[line.text], stroke: read(`--chart-${line.color}`), width: line.width || 1.5, dash: line.dash,
            spanGaps: false, points: { show: false }, value: (_plot, value) => tell(value),
          })),
        ],
      }, chart.data, chart.box);
      const drawn = chart.plot.root;
      drawn.querySelectorAll("canvas").forEach((canvas) => canvas.setAttribute("aria-hidden", "true"));
    }
  }

  /** How wide an axis must be for its longest label. */
  function widthOf(plot, labels) {
    const pixels = parseFloat(getComputedStyle(root).getPropertyValue("--chart-font")) || 12;
    const longest = (labels || []).reduce((most, label) => Math.max(most, label.length), 0);
    return Math.max(56, Math.ceil(longest * pixels * 0.62) + 20);
  }

  function rangeOfTime() {
    const end = (state.newestMs || Date.now()) / 1000;
    return [end - state.windowS, end];
  }

  function sizeOf(chart) { return { width: Math.max(240, chart.box.clientWidth), height: Number(getComputedStyle(root).getPropertyValue("--chart-height").trim()) || 180 }; }

  function fit() { charts.forEach((chart) => { if (chart.plot) chart.plot.setSize(sizeOf(chart)); }); }

  function bring(chart) {
    chart.isBehind = false;
    chart.plot.setData(chart.data);
  }

  // A chart that is out of sight is drawn when somebody scrolls to it.
  const watcher = new IntersectionObserver((changes) => {
    changes.forEach((change) => {
      const chart = charts.find((each) => each.box === change.target);
      chart.isSeen = change.isIntersecting;
      if (chart.isSeen && chart.isBehind && chart.plot) bring(chart);
    });
  });
  charts.forEach((chart) => watcher.observe(chart.box));

  const frame = () => new Promise((resolve) => { requestAnimationFrame(resolve); });

  /** Draw every chart, one per frame, so that nothing that a person does meanwhile waits for all of them. */
  async function draw(spentMs) {
    let whole = spentMs;
    let longest = spentMs;
    for (const chart of charts) {
      if (document.hidden) break;
      chart.isBehind = true;
      if (!chart.isSeen) continue;
      await frame();
      const begun = performance.now();
      bring(chart);
      await undefined; // uPlot draws in a microtask of its own, which comes before this one goes on
      const took = performance.now() - begun;
      whole += took;
      longest = Math.max(longest, took);
    }
    const { count } = window.liveUpdates;
    window.liveUpdates.durations[count % 600] = whole;
    window.liveUpdates.frames[count % 600] = longest;
    window.liveUpdates.count = count + 1;
  }

  // ---- Words --------------------------------------------------------------------------------------------------

  /** Sums and worst values over the points of the last `seconds`. */
  function over(seconds, endMs = state.newestMs) {
    const found = { elapsedMs: 0, won: 0, claims: 0, grabs: 0, refused: 0, p50: null, p99: null, lag: null, events: null, backlog: null };
    const worst = (name, key, i) => { const value = cell(name, i); if (value !== null) found[key] = Math.max(value, found[key] ?? value); };
    for (let i = state.at.length - 1; i >= 0 && state.at[i] > endMs - seconds * 1000; i -= 1) {
      if (state.at[i] > endMs) continue;
      const elapsed = cell("elapsed_ms", i);
      if (elapsed === null) continue;
      found.elapsedMs += elapsed;
      for (const [name, column] of state.columns) {
        if (name.startsWith("claims.")) found.claims += column[i] || 0;
        else if (name.startsWith("grabs.")) found.grabs += column[i] || 0;
        else if (name.startsWith("refused.")) found.refused += column[i] || 0;
      }
      found.won += cell("claims.claimed", i) || 0;
      worst("p50_ms", "p50", i); worst("p99_ms", "p99", i); worst("lag.seconds", "lag", i);
      worst("lag.events", "events", i); worst("lag.backlog", "backlog", i);
    }
    return found;
  }

  const perSecond = (count, elapsedMs) => (elapsedMs ? exact.format((count * 1000) / elapsedMs) : "–");
  const orDash = (value, unit = "") => (value === null ? "–" : `${exact.format(value)}${unit}`);
  const put = (node, text) => { if (node && node.textContent !== text) node.textContent = text; };
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_whole, name) => values[name]);

  function showFigures() {
    const now = over(Math.max(5, (2 * state.stepMs) / 1000));
    put(element("won"), perSecond(now.won, now.elapsedMs));
    put(element("answered"), perSecond(now.claims, now.elapsedMs));
    put(element("refused"), perSecond(now.refused, now.elapsedMs));
    put(element("p99"), orDash(now.p99, " ms"));
    put(element("behind"), orDash(now.lag, " s"));
    put(element("backlog-now"), orDash(now.backlog));
  }

  function showMinute() {
    if (!hasTables) return;
    const rows = element("minute").rows;
    const stepS = Math.max(10, state.stepMs / 1000);
    for (let row = 0; row < rows.length; row += 1) {
      const endMs = state.newestMs - row * stepS * 1000;
      const then = over(stepS, endMs);
      const cells = [
        state.newestMs ? clock.format(endMs) : "–", perSecond(then.won, then.elapsedMs), perSecond(then.claims, then.elapsedMs),
        perSecond(then.grabs, then.elapsedMs), perSecond(then.refused, then.elapsedMs), orDash(then.p50, " ms"), orDash(then.p99, " ms"), orDash(then.lag, " s"),
      ];
      cells.forEach((text, place) => put(rows[row].cells[place], text));
    }
  }

  const hasTables = element("minute") !== null; // not on a wall

  function showRows(body, rows, make) {
    while (body.rows.length > rows.length) body.deleteRow(-1);
    while (body.rows.length < rows.length) make(body.insertRow());
    rows.forEach((cells, row) => cells.forEach((text, place) => put(body.rows[row].cells[place].firstElementChild || body.rows[row].cells[place], text)));
  }

  function showLanes(lanes) {
    showRows(element("lanes"), lanes.map((lane) => [
      String(lane.lane), orDash(lane.events), orDash(lane.seconds, " s"), orDash(lane.backlog), exact.format(lane.quarantined), lane.is_fenced ? texts.fenced : texts.serves,
    ]), (row) => { for (let i = 0; i < 6; i += 1) { const made = row.insertCell(); if (i > 0 && i < 5) made.className = "number"; } });
  }

  function showHottest(packets) {
    showRows(element("hottest"), packets.map((packet) => [
      packet.packet_id, packet.label || "–", exact.format(packet.count), exact.format(packet.claims_per_s), `${exact.format(packet.part * 100)} %`,
    ]), (row) => {
      for (let i = 0; i < 5; i += 1) { const made = row.insertCell(); if (i > 1) made.className = "number"; }
      row.cells[0].append(Object.assign(document.createElement("a"), { className: "id" }));
    });
    packets.forEach((packet, row) => { element("hottest").rows[row].cells[0].firstElementChild.href = `/packets/${packet.packet_id}`; });
    element("hottest-none").hidden = packets.length > 0;
  }

  function say(isForced = false) {
    const nowMs = performance.now();
    if (!isForced && nowMs - state.sentenceAtMs < SENTENCE_MS) return;
    if (!state.knownMs) return;
    state.sentenceAtMs = nowMs;
    showMinute();
    const then = over(Math.max(10, state.stepMs / 1000));
    if (!then.elapsedMs) return;
    put(element("status"), fill(texts.sentence, {
      won: perSecond(then.won, then.elapsedMs), claims: perSecond(then.claims, then.elapsedMs), p99: orDash(then.p99), lag: orDash(then.lag),
    }));
  }

  /** Four times per second, whatever the refresh is: whether anybody knows anything. */
  function tick() {
    if (document.hidden || state.isPaused || state.refreshS === 0) return;
    const silence = element("silence");
    if (state.isSignedOut) {
      silence.hidden = false;
      put(silence, texts.signed_out);
      return;
    }
    const nowMs = state.clockMs + Date.now();
    const silentS = state.knownMs ? Math.round((nowMs - state.knownMs) / 1000) : Math.round((performance.now() - begunMs) / 1000);
    const isSilent = silentS > SILENT_S + Math.max(state.refreshS, state.stepMs / 1000) - 1;
    root.classList.toggle("blind", isSilent);
    silence.hidden = !isSilent;
    if (isSilent) put(silence, fill(state.failedAtMs ? texts.no_answer : texts.no_data, { n: String(silentS) }));
  }

  // ---- Asking -------------------------------------------------------------------------------------------------

  async function ask() {
    if (state.asking) return;
    clearTimeout(state.timer);
    state.asking = new AbortController();
    const deadline = setTimeout(() => state.asking && state.asking.abort(), ANSWER_MS_MAX);
    try {
      const points = await fetched(state.windowS);
      if (points) await show(points); // an error in here is ours: it is seen in the browser's console
    } finally {
      clearTimeout(deadline);
      state.asking = null;
      next();
    }
  }

  /** What is new; null if there is none, or if nobody answers. */
  async function fetched(windowS) {
    try {
      const answer = await fetch(`${root.dataset.url}?after=${state.newestMs}&window=${windowS}`, { cache: "no-store", signal: state.asking.signal });
      if (answer.redirected || answer.status === 401) {
        state.isSignedOut = true;
        return null;
      }
      if (!answer.ok) throw new Error(`${answer.status}`);
      const points = await answer.json();
      return windowS === state.windowS ? points : null;
    } catch {
      state.failedAtMs = Date.now();
      return null;
    }
  }

  async function show(answer) {
    const begun = performance.now();
    state.failedAtMs = 0;
    state.clockMs = answer.now_ms - Date.now();
    take(answer);
    showFigures();
    if (hasTables) {
      showLanes(answer.lanes);
      showHottest(answer.hottest);
    }
    put(element("sources"), answer.silent.length ? fill(texts.silent, { silent: String(answer.silent.length), all: String(answer.sources) }) : "");
    say();
    element("beacon").classList.toggle("on");
    await draw(performance.now() - begun);
  }

  function next() {
    clearTimeout(state.timer);
    if (document.hidden || state.isPaused || state.refreshS === 0 || state.isSignedOut) return;
    state.timer = setTimeout(ask, state.refreshS * 1000);
  }

  function again() {
    if (state.asking) state.asking.abort();
    clearTimeout(state.timer);
    state.timer = setTimeout(ask, 0);
  }

  // ---- What a person does -------------------------------------------------------------------------------------

  function keep() {
    const address = new URL(location.href);
    address.searchParams.set("window", String(state.windowS));
    address.searchParams.set("refresh", String(state.refreshS));
    history.replaceState(null, "", address);
    document.querySelectorAll("[data-keeps-choice]").forEach((link) => {
      const target = new URL(link.href);
      target.searchParams.set("window", String(state.windowS));
      if (link.dataset.keepsChoice === "all") target.searchParams.set("refresh", String(state.refreshS));
      link.href = `${target.pathname}${target.search}`;
    });
  }

  function listen(id, event, act) { const found = element(id); if (found) found.addEventListener(event, act); }

  listen("window", "change", (event) => {
    state.windowS = Number(event.target.value);
    clear();
    keep();
    again();
  });
  listen("refresh", "change", (event) => {
    state.refreshS = Number(event.target.value);
    keep();
    if (state.refreshS) again(); else next();
  });
  listen("pause", "click", (event) => {
    state.isPaused = !state.isPaused;
    event.target.setAttribute("aria-pressed", String(state.isPaused));
    put(event.target, state.isPaused ? texts.go_on : texts.pause);
    element("silence").hidden = true;
    if (state.isPaused) clearTimeout(state.timer); else again();
  });
  listen("png", "click", savePicture);
  document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(state.timer); else if (!state.isPaused && state.refreshS) again(); });
  window.addEventListener("resize", () => { clearTimeout(fit.timer); fit.timer = setTimeout(fit, 150); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);

  /** All charts of the window as one picture. */
  async function savePicture() {
    const style = getComputedStyle(root);
    const scale = window.devicePixelRatio || 1;
    const shown = charts.filter((chart) => chart.plot && chart.box.clientWidth);
    shown.forEach((chart) => { if (chart.isBehind) bring(chart); });
    await frame();
    const titleHeight = 44 * scale;
    const whole = document.createElement("canvas");
    whole.width = Math.max(...shown.map((chart) => chart.plot.ctx.canvas.width)) + 24 * scale;
    whole.height = shown.reduce((height, chart) => height + chart.plot.ctx.canvas.height + titleHeight, 12 * scale);
    const paper = whole.getContext("2d");
    paper.fillStyle = style.getPropertyValue("--chart-back").trim();
    paper.fillRect(0, 0, whole.width, whole.height);
    let y = 6 * scale;
    for (const chart of shown) {
      paper.fillStyle = style.getPropertyValue("--chart-ink").trim();
      paper.font = `${14 * scale}px system-ui, sans-serif`;
      paper.fillText(chart.box.dataset.title, 12 * scale, y + 16 * scale);
      let x = 12 * scale;
      paper.font = `${11 * scale}px system-ui, sans-serif`;
      for (const line of chart.plan.series) {
        paper.fillStyle = style.getPropertyValue(`--chart-${line.color}`).trim();
        paper.fillText(`■ ${texts[line.text]}`, x, y + 34 * scale);
        x += paper.measureText(`■ ${texts[line.text]}`).width + 14 * scale;
      }
      paper.drawImage(chart.plot.ctx.canvas, 12 * scale, y + titleHeight - 4 * scale);
      y += chart.plot.ctx.canvas.height + titleHeight;
    }
    whole.toBlob((blob) => {
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: root.dataset.picture });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }, "image/png");
  }

  const begunMs = performance.now();
  if (element("window")) element("window").value = String(state.windowS);
  if (element("refresh")) element("refresh").value = String(state.refreshS);
  keep();
  build();
  setInterval(tick, TICK_MS);
  ask();
})();
