// Texts in both languages, and how amounts and times are written. WORDS: key -> [Chinese, English].
let language = document.documentElement.lang === "en" ? "en" : "zh";

function say(key, values) {
  const texts = WORDS[key];
  if (!texts) {
    throw new Error("no text " + key);
  }
  const text = texts[language === "zh" ? 0 : 1];
  return values ? text.replace(/\{(\w+)\}/g, (whole, name) => values[name]) : text;
}

// An amount of 10^-scale. Yuan have their sign, every other asset its code.
function money(amount, scale, asset) {
  if (/^COUPON_/.test(asset)) {
    return say("coupon.count", { count: amount });
  }
  const digits = String(amount).padStart(scale + 1, "0");
  const number = scale ? digits.slice(0, -scale) + "." + digits.slice(-scale) : digits;
  return asset === "CNY" ? "¥" + number : number + " " + asset;
}

function clock(atMs, options) {
  const locale = language === "zh" ? "zh-CN" : "en-GB";
  return new Date(atMs).toLocaleString(locale, Object.assign({ hour: "2-digit", minute: "2-digit", hour12: false }, options));
}

function dayAndTime(atMs) {
  return clock(atMs, { month: "numeric", day: "numeric" });
}

function setLanguage(chosen) {
  language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-say]")) {
    element.textContent = say(element.dataset.say);
  }
  const other = find("language");
  other.textContent = say("language");
  other.lang = chosen === "zh" ? "en" : "zh-CN";
}
