// Who is here. The token comes in the fragment, which no browser ever sends. It stays in memory alone.
const caller = { token: null, user: "", admission: null };

function takeCaller() {
  const fragment = fragmentNow();
  if (location.hash) {
    history.replaceState(null, "", location.pathname + location.search);
  }
  const token = fragment.get("t");
  if (token) {
    caller.token = token;
    caller.user = userOf(token);
    caller.admission = fragment.get("a");
  }
}

function fragmentNow() {
  return new URLSearchParams(location.hash.slice(1));
}

// Another link to this page in the same tab changes nothing but the fragment. Who comes with one must see nothing of the
// user before, and get no answer that is still under way to them: the page hides, and begins anew with the new token.
function watchCaller() {
  window.addEventListener("hashchange", () => {
    // Hidden already: somebody went back before the new page came.
    if (fragmentNow().get("t") || document.body.hidden) {
      document.body.hidden = true;
      location.reload();
    } else {
      takeCaller();
    }
  });
}

// Whom the token is for. The server checks the signature; here it only says whose share to ask for.
function userOf(token) {
  try {
    return String(JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub);
  } catch (error) {
    return "";
  }
}

function signInAddress() {
  const page = document.body.dataset.signIn;
  const back = "return_to=" + encodeURIComponent(location.pathname);
  return page && page + (page.includes("?") ? "&" : "?") + back;
}
