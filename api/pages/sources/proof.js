// The proof that nobody chose the shares: what was promised at sending, compared here with the seed that is public now.
async function sha256(lines) {
  const bytes = new TextEncoder().encode(lines.map((line) => line + "\n").join(""));
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// committed(): the promise that this page knows. linesOf(proof): the lines that it was made of.
function prepareProof(path, committed, linesOf) {
  preparePanel("proof", async (panel) => {
    fill(panel);
    const answer = await ask("GET", path, { onCrowd: () => {}, isWanted: () => !panel.hidden });
    if (answer.status !== 200) {
      fill(panel, make("p", "", answer.body && answer.body.code === "not_settled" ? say("proof.early") : say("fault.text")));
      return;
    }
    const proof = answer.body;
    let verdict = "by_hand";
    if (window.crypto && crypto.subtle) {
      verdict = (await sha256(linesOf(proof))) === committed() ? "good" : "bad";
    }
    // Instead of the answer to an earlier opening, which may have come meanwhile.
    fill(
      panel, make("p", "verdict", say("proof." + verdict)),
      make("p", "label", say("proof.commitment")), make("p", "hash", committed()),
      make("p", "label", say("proof.seed")), make("p", "hash", proof.seed),
      make("p", "", say("proof.how")), saveLink(proof)
    );
  });
}

function saveLink(proof) {
  const link = make("a", "way", say("proof.save"));
  link.download = "proof.json";
  link.href = URL.createObjectURL(new Blob([JSON.stringify(proof)], { type: "application/json" }));
  return link;
}
