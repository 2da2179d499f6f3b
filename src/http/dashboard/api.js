// What the node answers, and whether it answers at all.

/** Why there is no answer. `status` is 0 where nothing came. */
export class ApiError extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** An error of an answer that is not what was asked for; reads its sentence. */
export async function refusal(response) {
  let sentence = `the node answered ${response.status}`;
  try {
    sentence = (await response.json()).error ?? sentence;
  } catch {
    // An answer that is no JSON, as that of a proxy, has no sentence for us.
  }
  return new ApiError(response.status, sentence, Number(response.headers.get('Retry-After')) || null);
}

/** The JSON of a path. */
export async function get(path) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(8000), headers: { Accept: 'application/json' }, cache: 'no-store' });
  } catch (error) {
    throw new ApiError(0, error.name === 'TimeoutError' ? 'no answer within 8 s' : 'no connection');
  }
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Puts JSON at a path, and gives the answer's. With a `tag` it is meant for what has this tag alone, and nothing else is replaced. What is put is put once: a node that does not answer may have taken it all the same. */
export async function put(path, body, tag = null) {
  let response;
  try {
    const headers = { Accept: 'application/json', 'Content-Type': 'application/json', ...(tag === null ? {} : { 'If-Match': `"${tag}"` }) };
    response = await fetch(path, { method: 'PUT', signal: AbortSignal.timeout(20000), headers, cache: 'no-store', body: JSON.stringify(body) });
  } catch (error) {
    throw new ApiError(0, error.name === 'TimeoutError' ? 'no answer within 20 s' : 'no connection');
  }
  if (!response.ok) throw await refusal(response);
  return response.status === 204 ? null : response.json().catch(() => null);
}

/** The pause before attempt `n`, from 1: it doubles from half a second to 10 s, with some jitter. */
export function pause(n, random = Math.random()) {
  return Math.min(10000, 500 * 2 ** Math.min(n - 1, 10)) * (0.8 + 0.4 * random);
}

/** A node that was gone is asked every two seconds, since somebody may stand before it and start it again. */
export const pauseWhenGone = (n, random) => Math.min(2000, pause(n, random));

/**
 * What is known of the node: `node`, `cameras`, and `reach`, which says whether it answers. Dispatches `change`.
 * It asks every 2 s while the page is seen and every 10 s while it is not, since the title tells trouble, too.
 */
export class Store extends EventTarget {
  node = null;
  cameras = null;
  /** `first` before any answer, `ok`, `gone` since `since`, `unauthorised`. */
  reach = { state: 'first', since: null, retryAt: null, error: null, status: 0 };
  #timer = null;
  #failures = 0;
  #asking = false;
  #again = false;

  start() {
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.soon(); });
    const again = () => { if (this.reach.state === 'gone') this.soon(); };
    addEventListener('online', again);
    document.addEventListener('click', again);
    this.soon();
  }

  /** Asks now, or as soon as the question that is under way is answered. */
  soon() {
    if (this.#asking) this.#again = true;
    else this.#ask();
  }

  async #ask() {
    clearTimeout(this.#timer);
    this.#asking = true;
    let wait = document.hidden ? 10000 : 2000;
    try {
      const [node, cameras] = await Promise.all([get('/api/node'), get('/api/cameras?history=1')]);
      this.node = node;
      this.cameras = cameras;
      this.#failures = 0;
      this.reach = { state: 'ok', since: null, retryAt: null, error: null, status: 0 };
      sessionStorage.removeItem('signed-out');
    } catch (error) {
      this.#failures += 1;
      wait = error.retryAfter ? error.retryAfter * 1000 : pauseWhenGone(this.#failures);
      const since = this.reach.state === 'gone' ? this.reach.since : Date.now();
      if (error.status === 401) this.#signedOut();
      else this.reach = { state: 'gone', since, retryAt: Date.now() + wait, error: error.message, status: error.status };
    }
    this.#asking = false;
    this.dispatchEvent(new Event('change'));
    if (this.#again) wait = Math.min(wait, 100);
    this.#again = false;
    this.#timer = setTimeout(() => this.#ask(), wait);
  }

  /** The node serves its login page at this very address. Once, so that a page that it does serve is not loaded for ever. */
  #signedOut() {
    this.reach = { state: 'unauthorised', since: Date.now(), retryAt: null, error: null };
    if (sessionStorage.getItem('signed-out')) return;
    sessionStorage.setItem('signed-out', '1');
    location.reload();
  }
}
