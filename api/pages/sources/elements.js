// Elements of the page. What comes from people gets in as text, never as markup.
function find(id) {
  return document.getElementById(id);
}

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) {
    element.className = className;
  }
  element.append(...children);
  return element;
}

// Instead of what was in it. Older web-views have no replaceChildren.
function fill(element, ...children) {
  element.textContent = "";
  element.append(...children);
}

function write(id, text) {
  const element = find(id);
  if (element.textContent !== text) {
    element.textContent = text;
  }
  element.hidden = !text;
}

function masked(user) {
  return user.charAt(0) + "***" + (user.length > 2 ? user.charAt(user.length - 1) : "");
}

// A letter on one of eight colours, the same ones for a user everywhere. Nothing is loaded for it.
function dressAvatar(element, user, name) {
  let sum = 0;
  for (const letter of user) {
    sum = (sum * 31 + letter.codePointAt(0)) % 997;
  }
  element.className = "avatar colour-" + (sum % 8);
  element.textContent = Array.from(name)[0].toUpperCase();
  return element;
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) {
    // Without the right to, or without TLS: the old way.
    const field = make("textarea", "off-screen", text);
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.textContent = say("copied");
}
