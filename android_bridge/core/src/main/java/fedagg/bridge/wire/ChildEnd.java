package fedagg.bridge.wire;

import fedagg.bridge.wire.Messages.Adopt;
import fedagg.bridge.wire.Messages.Append;
import fedagg.bridge.wire.Messages.Appended;
import fedagg.bridge.wire.Messages.Behind;
import fedagg.bridge.wire.Messages.Entry;
import fedagg.bridge.wire.Messages.Exchange;
import fedagg.bridge.wire.Messages.Exchanged;
import fedagg.bridge.wire.Messages.Hello;
import fedagg.bridge.wire.Messages.Limits;
import fedagg.bridge.wire.Messages.Message;
import fedagg.bridge.wire.Messages.Missing;
import fedagg.bridge.wire.Messages.Payload;
import fedagg.bridge.wire.Messages.Problem;
import fedagg.bridge.wire.Messages.Welcome;
import fedagg.bridge.wire.Messages.WireKnowledge;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;

/**
 * A device's end of its link: says what to send next, and takes what came back. No socket, file or clock; one thread.
 *
 * <p>A request may be lost, sent twice, answered late or not at all: everything it does is repeatable, and what must
 * survive a restart is in the state, never here. The order is always the same: adopt, if this node has moved; hello;
 * rebase, after a move; sync, which appends the own batches one at a time; exchange for ever after.
 */
public final class ChildEnd {
  /** What this end is about; docs/protocol.md draws which step leads to which. */
  public enum Step {
    HELLO,
    REBASE,
    SYNC,
    EXCHANGE,
    REFUSED
  }

  private static final double FIRST_WAIT = 0.5; // seconds of the first and of the longest backoff
  private static final double SPREAD = 0.5; // of a wait that the parent asked for
  private static final double LONGEST_WAIT = 60;
  private static final double OWED_WAIT = 15; // between polls while this node owes its parent an answer
  private static final double ASK_AGAIN = 600; // until a batch that was refused is asked for again
  private static final Limits OWN = Limits.initial(); // what this end takes, however little the parent does
  private static final double NEVER = Double.POSITIVE_INFINITY;
  private static final long NO_NEWS = 1L << 62; // a version and a notice that no parent has a newer one of
  private static final Set<String> OF_THE_KNOWLEDGE =
      new HashSet<>(Arrays.asList("unfit", "unknown_digest", "conflict", "too_large"));
  private static final Set<String> OF_THE_BATCH = new HashSet<>(Arrays.asList("unfit", "too_large"));
  private static final byte[] EMPTY = Digests.ofSamples("", new long[0]);

  private final ChildState state;
  private final String node;
  private final String federation;
  private final String software;
  private final String labels;
  private final Random random;
  private final double wait;

  private Limits limits = OWN;
  private Step step = Step.HELLO;
  private String parent;
  private boolean ready = true;
  private Request sent;
  private Message about; // what the request that is out is about; null: a chunk
  private double wake; // nothing is sent before
  private double rest; // no question for news before; what this node has to say goes at once
  private double idle; // nothing need be sent before, unless the state changes
  private int failures;
  private long given = -1; // version of the own knowledge that the parent has
  private long unfit = -1; // version of the own knowledge that the parent refused
  private List<byte[]> needed; // chunks to send before the next message; null: not asked
  private byte[] neededFor; // digest of the payload that they are of
  private Download download;
  private boolean knownFinished;
  private boolean greet;
  private final Map<Long, Integer> refusedSizes = new HashMap<>(); // of batches that the parent refused, by key
  private List<Long> aside = Collections.emptyList();
  private double again = NEVER; // when to say hello again, as something is set aside
  private double look; // when to ask for news although this node owes an answer
  private boolean adopted;
  private long fence;
  private List<ChildState.TakenEntry> log = new ArrayList<>(); // the new parent's, as far as it has come
  private long logBytes;
  private Welcome welcome; // told when the log is here: a new parent's, or what this node has lost

  /**
   * @param labels how far up this node's labels may go: "all" or "first-edge"
   * @param wait seconds that a poll may be held
   * @param random spreads retries
   */
  public ChildEnd(
      ChildState state, String node, String federation, String software, String labels, double wait, Random random) {
    this.state = state;
    this.node = node;
    this.federation = federation;
    this.software = software;
    this.labels = labels;
    this.wait = wait;
    this.random = random;
  }

  public Step step() {
    return step;
  }

  /** The parent's node id, null before it has said so. */
  public String parent() {
    return parent;
  }

  /** Bytes of an answer, a message or a chunk, as the parent's limits are. */
  public long longestAnswer() {
    return Math.max(limits.body(), limits.chunk);
  }

  /** Seconds on the clock of {@link #next} before which there is nothing to send. */
  public double wake() {
    return Math.max(wake, idle);
  }

  /** Whether the parent says that the training is over. */
  public boolean isFinished() {
    return knownFinished;
  }

  /** Own batches that the parent does not take: one row of each is too long, or it has refused them. Keys, ascending. */
  public List<Long> aside() {
    return aside;
  }

  /** Whether to exchange already: a device is ready once it has samples at its parent. */
  public void setReady(boolean ready) {
    this.ready = ready;
  }

  /** Say hello again before the next exchange: what the parent said in Welcome may have changed. */
  public void greet() {
    greet = true;
  }

  /** The state says that this node changes its parent: begin with that at {@code wake}. */
  public void restart(double wake) {
    sent = null;
    download = null;
    needed = null;
    this.wake = wake;
    rest = 0;
    failures = 0;
    unfit = -1;
    adopted = false;
    step = Step.HELLO;
  }

  // what to send

  /**
   * The next request; or null, and {@link #wake} says when to ask again.
   *
   * @param now seconds that never jump
   * @throws ChildState.StorageException if batches had to be cut and that could not be kept
   */
  public Request next(double now) throws ChildState.StorageException {
    idle = 0;
    if (now < wake) {
      return null;
    }
    if (step == Step.REFUSED || ((greet || now >= again) && download == null && (step == Step.SYNC || step == Step.EXCHANGE))) {
      step = Step.HELLO;
    }
    if (step == Step.HELLO) {
      greet = false;
      again = NEVER;
      return introduction();
    }
    if (welcome != null) { // more of the log, and nothing else
      long head = step == Step.REBASE ? log.size() : state.head();
      return download != null
          ? send("GET", download.path(), new byte[0])
          : post("exchange", new Exchange(NO_NEWS, head, NO_NEWS, 0, fence, null, none()));
    }
    if (download != null) {
      step = Step.SYNC;
      return send("GET", download.path(), new byte[0]);
    }
    long key = nextBatch();
    ChildState.WaitingBatch batch = key < 0 ? null : state.batch(key);
    if (!aside.isEmpty() && again == NEVER) { // its limits and its room may have changed: Welcome tells
      again = now + (refusedSizes.isEmpty() ? LONGEST_WAIT : ASK_AGAIN) * (0.5 + random.nextDouble());
    }
    if (batch != null) {
      step = Step.SYNC;
      return offer(key, batch);
    }
    step = Step.EXCHANGE;
    return exchange(now);
  }

  private Request introduction() {
    boolean moves = state.moving() > 0;
    fence = moves ? state.moving() : state.fence();
    if (moves && !adopted) {
      return post("adopt", new Adopt(node, Collections.singletonList(node), fence));
    }
    List<String> formats = Arrays.asList("f32", "f16", "int8");
    return post(
        "hello",
        new Hello(
            Messages.PROTOCOL, Messages.PROTOCOL, software, node, "device", federation, formats, fence,
            moves ? 0 : state.head(), moves ? EMPTY : state.headDigest(), labels));
  }

  /**
   * The first own batch that the parent takes, or -1. Those before it stay where they are, and {@link #aside} names them
   * once all have been looked at: they go when the parent takes more, or when their rows have been erased.
   */
  private long nextBatch() throws ChildState.StorageException {
    long mostBytes = Math.min(limits.entryBytes, limits.staged); // of an entry's chunks, no more may be staged
    state.split(limits.entryRows, mostBytes);
    List<Long> passed = new ArrayList<>();
    for (long key : state.pendingKeys()) {
      ChildState.WaitingBatch batch = state.batch(key);
      if (batch == null) {
        continue; // it was cut by now
      }
      Integer refused = refusedSizes.get(key);
      if (batch.bytes.length <= mostBytes && (refused == null || refused != batch.bytes.length)) {
        return key;
      }
      passed.add(key);
    }
    aside = Collections.unmodifiableList(passed);
    return -1;
  }

  private Request offer(long key, ChildState.WaitingBatch batch) {
    Payload payload = Payloads.of(batch.bytes, limits);
    Request chunk = chunkFirst(payload, batch.bytes);
    if (chunk != null) {
      return chunk;
    }
    return post(
        "append",
        new Append(
            key, state.head(), batch.kind, batch.rows, Messages.notComputed(), payload, fence));
  }

  /** What must go before a message with this payload: which chunks are missing, then each of them. */
  private Request chunkFirst(Payload payload, byte[] data) {
    if (payload.chunks.isEmpty()) {
      return null;
    }
    if (!Arrays.equals(payload.digest, neededFor)) { // they were another payload's
      needed = null;
      neededFor = payload.digest;
    }
    if (needed != null && needed.isEmpty()) {
      return null;
    }
    if (needed != null) {
      byte[] wanted = needed.get(0);
      for (int i = 0; i < payload.chunks.size(); i++) {
        if (Arrays.equals(payload.chunks.get(i), wanted)) {
          return send("PUT", "/v1/chunks/" + Digests.hex(wanted), Payloads.chunk(data, i, limits));
        }
      }
      needed = null; // the parent's answer named none of them
    }
    return post("missing", new Missing(payload.chunks));
  }

  private Request exchange(double now) {
    if (!ready) {
      idle = Math.min(now + LONGEST_WAIT, again);
      return null;
    }
    Knowledge own = state.told(parent);
    WireKnowledge offered = null;
    if (own != null && own.version > Math.max(given, unfit)) {
      offered =
          new WireKnowledge(
              own.version, own.basis, own.digest, own.viewSeed, own.format, own.rows, own.classes,
              Payloads.of(own.data, limits));
      Request chunk = chunkFirst(offered.payload, own.data);
      if (chunk != null) {
        return chunk;
      }
    }
    Knowledge heard = state.heard(parent);
    long have = heard == null ? -1 : heard.version;
    boolean owes = offered == null && have >= 0 && (own == null || own.basis < have) && !knownFinished;
    if (owes && now < look) {
      idle = look;
      return null;
    }
    if (offered == null && now < rest) {
      idle = Math.min(rest, again);
      return null;
    }
    look = now + OWED_WAIT;
    return post(
        "exchange",
        new Exchange(
            have, state.head(), state.noticed(), owes ? 0 : Math.min(wait, limits.wait), fence, offered, none()));
  }

  private static List<byte[]> none() {
    return Collections.emptyList();
  }

  private Request post(String name, Message message) {
    Request request = send("POST", "/v1/" + name, message.encode());
    about = message;
    return request;
  }

  private Request send(String method, String path, byte[] body) {
    sent = new Request(method, path, body);
    about = null;
    return sent;
  }

  // what came back

  /** No answer came: try again later, at a random moment of a window that doubles. */
  public void failed(Request request, double now) {
    if (request != sent) {
      return;
    }
    sent = null;
    backOff(now, 0);
    adopted = false;
    if (step != Step.REFUSED) {
      step = Step.HELLO; // whoever answers next may be another process, with other limits
    }
  }

  /** This node has ended the request itself, to send something else: the same parent is there, with the same limits. */
  public void ended(Request request) {
    if (request == sent) {
      sent = null;
      look = 0;
    }
  }

  private void backOff(double now, double least) {
    // all children of a parent may have been told the same: they must not come back in one second
    double window = Math.max(Math.min(LONGEST_WAIT, FIRST_WAIT * Math.pow(2, failures)), SPREAD * least);
    failures = Math.min(failures + 1, 16);
    wake = now + least + window * random.nextDouble();
  }

  /**
   * Takes an answer; one to a request that was given up changes nothing, one that cannot be read counts as none.
   *
   * @throws ChildState.StorageException if it could not be kept; the request counts as failed then
   */
  public List<Event> receive(Request request, Response response, double now) throws ChildState.StorageException {
    if (request != sent) {
      return Collections.emptyList();
    }
    Message asked = about;
    sent = null;
    List<Event> events = new ArrayList<>();
    state.begin();
    try {
      take(request, asked, response, now, events);
      state.commit();
    } catch (ProtocolException error) {
      state.rollback();
      giveUp(request, now);
      return Collections.singletonList(Event.refused(0, new Problem("malformed", shortened(error.getMessage()), -1)));
    } catch (ChildState.StorageException error) {
      giveUp(request, now);
      throw error;
    } catch (RuntimeException error) { // or the transaction would stay open, and lock everybody out
      state.rollback();
      giveUp(request, now);
      throw error;
    }
    if (response.status < 400) {
      failures = 0;
    }
    return events;
  }

  private void giveUp(Request request, double now) {
    sent = request;
    failed(request, now);
    download = null;
    log = new ArrayList<>();
    logBytes = 0;
  }

  private static String shortened(String text) {
    return text.length() <= 1024 ? text : text.substring(0, 1024);
  }

  private void take(Request request, Message asked, Response response, double now, List<Event> events)
      throws ProtocolException {
    if (response.status >= 400) {
      refused(request, asked, response, now, events);
      return;
    }
    if (response.status != 200 && response.status != 204) {
      throw new ProtocolException(
          request.method + " " + request.path + ": got status " + response.status + ", expected 200");
    }
    wake = 0;
    if (download != null && request.method.equals("GET")) {
      piece(response.body, events);
    } else if (asked instanceof Hello) {
      welcomed(Welcome.decode(response.body), events);
    } else if (asked instanceof Adopt) {
      Messages.Adopted.decode(response.body);
      adopted = true;
    } else if (asked instanceof Exchange && welcome != null) {
      Exchanged news = Exchanged.decode(response.body);
      if (step == Step.REBASE) {
        logCame(news, events);
      } else {
        caughtUp(news.entries, events);
      }
    } else if (asked instanceof Append) {
      appended((Append) asked, Appended.decode(response.body), events);
    } else if (asked instanceof Missing) {
      needed = new ArrayList<>(Missing.decode(response.body).chunks);
    } else if (asked instanceof Exchange) {
      exchanged((Exchange) asked, Exchanged.decode(response.body), now, events);
    } else if (needed != null && !needed.isEmpty()) { // a chunk arrived
      needed.remove(0);
    }
  }

  private void welcomed(Welcome found, List<Event> events) throws ProtocolException {
    if (!found.federation.equals(federation)) {
      throw new ProtocolException("welcome.federation: got " + found.federation + ", expected " + federation);
    }
    limits = OWN.narrowed(found.limits);
    parent = found.node;
    given = found.version;
    rest = 0;
    refusedSizes.clear();
    welcome = null;
    if (state.moving() > 0) {
      log = new ArrayList<>();
      logBytes = 0;
      welcome = found;
      step = Step.REBASE;
      return;
    }
    if (found.fence > fence && state.head() == 0) { // this node has lost its state
      state.setFence(found.fence);
      fence = found.fence;
    }
    step = Step.SYNC;
    if (!state.joined() && state.head() < found.head) {
      welcome = found; // this node has lost its state: nothing begins before it knows what it had given
      return;
    }
    joined(found, events);
  }

  private void joined(Welcome found, List<Event> events) {
    if (!state.joined()) {
      state.join();
    }
    begun(found, events);
  }

  private void begun(Welcome found, List<Event> events) {
    events.add(Event.welcomed(found));
    finished(found.finished, events);
  }

  private void finished(boolean over, List<Event> events) {
    if (over && !knownFinished) {
      events.add(Event.of(Event.Kind.FINISHED, 0));
    }
    knownFinished = over;
  }

  private void logCame(Exchanged news, List<Event> events) throws ProtocolException {
    for (Entry entry : news.entries) {
      if (entry.number != log.size() + 1) {
        continue;
      }
      byte[] data = state.find(entry.payload.digest); // own rows do not travel
      if (data == null && !entry.payload.chunks.isEmpty()) {
        download = new Download(entry, limits);
        return;
      }
      keepEntry(
          entry, data == null ? Payloads.inlined("entry " + entry.number, entry.payload) : data, data == null);
    }
    if (log.size() >= news.head) {
      if (welcome == null || state.moving() != fence) {
        throw new ProtocolException(node + ": the move " + fence + " was given up");
      }
      state.rebase(log, fence);
      log = new ArrayList<>();
      logBytes = 0;
      step = Step.SYNC;
      events.add(Event.of(Event.Kind.MOVED, fence));
      begun(welcome, events);
      welcome = null;
    }
  }

  private void keepEntry(Entry entry, byte[] data, boolean foreign) throws ProtocolException {
    logBytes += foreign ? data.length : 0; // what is here already takes no more memory than it did
    if (logBytes > OWN.staged) {
      throw new ProtocolException("log: got " + logBytes + " bytes, expected at most " + OWN.staged);
    }
    log.add(taken(entry, data));
  }

  private static ChildState.TakenEntry taken(Entry entry, byte[] data) {
    return new ChildState.TakenEntry(entry.number, entry.kind, entry.rows, entry.digest, data, entry.key);
  }

  private void appended(Append asked, Appended done, List<Event> events) throws ProtocolException {
    needed = null;
    if (done.entry > state.head() + 1) {
      return; // committed before, with entries between that this end has not seen: the next exchange tells
    }
    state.acknowledge(asked.key, done.entry, done.digest);
    events.add(Event.of(Event.Kind.COMMITTED, done.entry));
  }

  private void exchanged(Exchange asked, Exchanged news, double now, List<Event> events) throws ProtocolException {
    if (asked.knowledge != null && news.version >= asked.knowledge.version) {
      needed = null;
      events.add(Event.of(Event.Kind.ACCEPTED, news.version));
    }
    given = Math.max(given, news.version);
    entries(news.entries, events);
    if (news.knowledge != null) {
      if (news.knowledge.payload.chunks.isEmpty()) {
        keep(news.knowledge, Payloads.inlined("knowledge", news.knowledge.payload), events);
      } else if (download == null) {
        download = new Download(news.knowledge, limits);
      }
    }
    for (Messages.Notice notice : news.notices) {
      events.add(Event.notice(notice));
    }
    finished(news.finished, events);
    if (news.retryAfter > 0 || news.finished) {
      double until = now + news.retryAfter + Math.max(2, SPREAD * news.retryAfter) * random.nextDouble(); // not all at once
      if (news.finished) {
        rest = until;
        idle = until;
      } else { // a parent that is about to stop takes nothing either
        wake = until;
      }
    }
  }

  /** Takes over entries in order; a long one is downloaded first, and those behind it come again. */
  private void entries(List<Entry> entries, List<Event> events) throws ProtocolException {
    for (Entry entry : entries) {
      if (entry.number <= state.head()) {
        continue;
      }
      // an own batch whose answer was lost; before this node has joined, it has asked for none
      if (entry.key >= 0 && welcome == null && state.batchKind(entry.key) != 0) {
        state.acknowledge(entry.key, entry.number, entry.digest);
        events.add(Event.of(Event.Kind.COMMITTED, entry.number));
      } else if (!entry.payload.chunks.isEmpty()) {
        if (download == null) {
          download = new Download(entry, limits);
        }
        return;
      } else {
        follow(entry, Payloads.inlined("entry " + entry.number, entry.payload), events);
      }
    }
  }

  private void follow(Entry entry, byte[] data, List<Event> events) throws ProtocolException {
    state.follow(taken(entry, data));
    events.add(Event.of(Event.Kind.FOLLOWED, entry.number));
    Welcome waits = welcome;
    if (waits != null && entry.number >= waits.head) {
      welcome = null;
      joined(waits, events);
    }
  }

  private void keep(WireKnowledge found, byte[] data, List<Event> events) throws ProtocolException {
    if (parent == null) {
      throw new ProtocolException("knowledge: it came before the parent had said who it is");
    }
    state.hear(parent, Knowledge.of(found, data));
    events.add(Event.of(Event.Kind.HEARD, found.version));
  }

  private void piece(byte[] body, List<Event> events) throws ProtocolException {
    if (!download.add(body)) {
      return;
    }
    Download done = download;
    download = null;
    if (done.knowledge != null) {
      keep(done.knowledge, done.whole(), events);
    } else if (step == Step.REBASE) {
      keepEntry(done.entry, done.whole(), true);
    } else {
      follow(done.entry, done.whole(), events);
    }
  }

  private void refused(Request request, Message asked, Response response, double now, List<Event> events)
      throws ProtocolException {
    Download interrupted = download;
    download = null;
    if (asked instanceof Append && response.status == 409) {
      Behind behind = behind(response);
      if (behind != null) {
        caughtUp(behind.entries, events);
        failures = 0;
        return;
      }
    }
    Problem problem = problem(response);
    if (problem.code.equals("missing")) { // swept in between: ask again which
      needed = null;
      backOff(now, 0);
      return;
    }
    if (interrupted != null && request.method.equals("GET") && problem.code.equals("not_found")) {
      backOff(now, 0); // newer knowledge took its place, which the next exchange tells
      return;
    }
    boolean ofKnowledge = asked instanceof Exchange && ((Exchange) asked).knowledge != null;
    if (ofKnowledge && OF_THE_KNOWLEDGE.contains(problem.code)) {
      unfit = ((Exchange) asked).knowledge.version; // the parent will never take it: the next one may do better
      events.add(Event.refused(response.status, problem));
      return;
    }
    boolean mayPass = problem.retryAfter >= 0 || response.status >= 500 || response.status == 429;
    if (asked instanceof Append && OF_THE_BATCH.contains(problem.code) && !mayPass) {
      Append batch = (Append) asked;
      refusedSizes.put(batch.key, (int) batch.payload.size); // until the next Welcome: those behind it may do better
      needed = null;
      events.add(Event.refused(response.status, problem));
      return;
    }
    if (mayPass) {
      backOff(now, Math.max(0, problem.retryAfter));
      return;
    }
    double pause = response.status == 426 ? 600 : response.status == 401 || response.status == 403 ? 30 : LONGEST_WAIT;
    wake = now + pause * (0.5 + random.nextDouble());
    step = Step.REFUSED;
    events.add(Event.refused(response.status, problem));
  }

  /** Takes over entries of an answer that must have brought some. */
  private void caughtUp(List<Entry> entries, List<Event> events) throws ProtocolException {
    int before = events.size();
    entries(entries, events);
    if (events.size() == before && download == null) {
      throw new ProtocolException("behind: got " + entries.size() + " entries, none of which this end lacks");
    }
  }

  private static Behind behind(Response response) {
    try {
      return Behind.decode(response.body);
    } catch (ProtocolException error) {
      return null; // a Problem, then
    }
  }

  /** What a response of status 400 or more tells; the body of a proxy's page is none. */
  public static Problem problem(Response response) {
    Problem found;
    try {
      found = Problem.decode(response.body);
    } catch (ProtocolException error) {
      found = new Problem("http", "status " + response.status + " without a problem", -1);
    }
    if (found.retryAfter < 0 && response.retryAfter >= 0) {
      return new Problem(found.code, found.message, response.retryAfter);
    }
    return found;
  }
}
