// Hands a capture to Perfetto's site in another tab, as that site asks: "PING" until it answers "PONG", then the bytes. Nothing is sent
// over the network: the other tab gets them from this one. It happens only when the link is followed.

export const SITE = "https://ui.perfetto.dev";

const EVERY = 100;
const PATIENCE = 60_000;

// Whether these are the bytes of a trace in Go's format.
export async function isGoTrace(blob) {
  return (await blob.slice(0, 3).text()) === "go ";
}

export async function open(blob, title) {
  const buffer = await blob.arrayBuffer();
  const tab = window.open(SITE);
  if (!tab) throw new Error("the browser has not opened a tab: allow it, or download the capture and open it there");
  const end = Date.now() + PATIENCE;
  await new Promise((resolve, reject) => {
    const answered = (event) => {
      if (event.origin !== SITE || event.source !== tab || event.data !== "PONG") return;
      finish();
      tab.postMessage({ perfetto: { buffer, title } }, SITE);
      resolve();
    };
    const timer = setInterval(() => {
      if (tab.closed || Date.now() > end) { finish(); reject(new Error("Perfetto's site did not answer; download the capture and open it there")); }
      else tab.postMessage("PING", SITE);
    }, EVERY);
    const finish = () => { clearInterval(timer); removeEventListener("message", answered); };
    addEventListener("message", answered);
  });
}
