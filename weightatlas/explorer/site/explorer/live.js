/** What a server adds to the page: computing what is missing, told by server-sent events. Without one, nothing happens here. */

export class Live extends EventTarget {
  /** @param site the content of site.json */
  constructor(site) {
    super();
    this.site = site;
    this.state = { builder: site.live ? "starting" : "none" };
    this.asked = new Map(); // key → {ask} while it waits, or {error}
    if (site.live) this.listen();
  }

  /** The content of site.json, read anew. */
  told(site) {
    this.site = site;
  }

  /**
   * Browsers keep few connections to one server, and a stream holds one for good: so all tabs share one stream. The tab that
   * has the lock listens and passes on what it hears; when it goes, the next one has the lock.
   */
  listen() {
    this.channel = new BroadcastChannel("weightatlas");
    this.channel.addEventListener("message", ({ data }) => (data.hello ? this.source && this.share("state", this.state) : this.hear(data.name, data.detail)));
    if (navigator.locks) {
      navigator.locks.request("weightatlas events", () => new Promise((release) => this.open(release)));
      this.channel.postMessage({ hello: true });
    } else { // a server that is reached by another name than this machine's: only tabs that are seen listen
      const seen = () => (document.hidden ? this.close() : this.source || this.open());
      document.addEventListener("visibilitychange", seen);
      seen();
    }
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && location.reload());
  }

  open(release = () => {}) {
    this.release = release;
    this.source = new EventSource("api/events");
    for (const name of ["state", "made", "failed", "updated"]) {
      this.source.addEventListener(name, (event) => this.share(name, JSON.parse(event.data || "{}")));
    }
    this.source.addEventListener("open", () => {
      if (this.lost) this.share("back", {});
      this.lost = false;
    });
    this.source.addEventListener("error", () => {
      this.lost = true;
      this.share("state", { builder: "lost", about: "the server does not answer; the page goes on with what it has read" });
    });
  }

  close() {
    this.source?.close();
    this.source = null;
    this.release?.();
  }

  share(name, detail) {
    this.channel.postMessage({ name, detail });
    this.hear(name, detail);
  }

  hear(name, detail) {
    const able = this.able;
    if (name === "state") this.state = detail;
    if (name === "back") for (const [key, { ask }] of this.asked) ask && this.asked.delete(key); // another server knows nothing of them
    const settled = name === "made" && this.settle(detail);
    if (name === "failed" && detail.ask) this.asked.set(keyOf(detail.ask), { error: detail.error });
    this.dispatchEvent(new CustomEvent(name, { detail }));
    if (settled || able !== this.able || ["failed", "back"].includes(name)) this.dispatchEvent(new CustomEvent("turned"));
  }

  /** Whether there is a builder. */
  get able() {
    return !["none", "failed"].includes(this.state.builder);
  }

  /** Why nothing is computed here; "" if it is. */
  get why() {
    return (!this.able && this.state.about) || (this.site.why ?? "");
  }

  settle(made) {
    const before = this.asked.size;
    for (const [key, about] of this.asked) {
      const ask = about.ask;
      const same = ask && ask.what === made.what && (made.what === "picture"
        ? ask.layer === made.layer && ask.recipe === made.recipe && made.units?.includes(ask.unit)
        : ask.source === made.source && ask.target === made.target);
      if (same) this.asked.delete(key);
    }
    return this.asked.size < before;
  }

  /** Whether pictures, weights or families can be made here, or images looked at: `what` is "pictures", "weights", "families" or "images". */
  can = (what) => Boolean(this.site.live && this.site.can?.[what] && (["families", "images"].includes(what) || this.able));

  /** What became of an ask: undefined, {ask} while it waits, or {error}. */
  about = (ask) => this.asked.get(keyOf(ask));

  /** Asks the server to compute something: {what: "picture", layer, unit, recipe} or {what: "weights", source, target}. */
  async ask(ask) {
    this.asked.set(keyOf(ask), { ask });
    this.dispatchEvent(new CustomEvent("turned"));
    try {
      await this.send("api/ask", "POST", ask);
    } catch (error) {
      this.asked.set(keyOf(ask), { error: error.message });
    }
    this.dispatchEvent(new CustomEvent("turned"));
  }

  /** Names a family in the atlas; returns all that people named. */
  name = async (family) => (await this.send("api/families", "POST", family)).families;
  drop = async (name) => (await this.send(`api/families?name=${encodeURIComponent(name)}`, "DELETE")).families;

  /** Sends data as JSON, or the bytes of a file; `signal` gives the answer up. An error has the `status` of its answer. */
  async send(path, method, body, signal = null) {
    const type = body instanceof Blob ? (body.type.startsWith("image/") ? body.type : "application/octet-stream") : "application/json";
    const answer = await fetch(path, {
      method, signal, headers: body ? { "Content-Type": type } : {}, body: body && (body instanceof Blob ? body : JSON.stringify(body)),
    }).catch((error) => {
      throw error.name === "AbortError" ? error : new Error("the server does not answer");
    });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw Object.assign(new Error(told.error ?? `${answer.status} ${answer.statusText}`), { status: answer.status });
    return told;
  }
}

const keyOf = (ask) => JSON.stringify([ask.what, ask.layer, ask.unit, ask.recipe, ask.source, ask.target]);
