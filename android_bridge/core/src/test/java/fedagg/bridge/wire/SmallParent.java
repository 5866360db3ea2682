package fedagg.bridge.wire;

import fedagg.bridge.wire.Messages.Adopted;
import fedagg.bridge.wire.Messages.Append;
import fedagg.bridge.wire.Messages.Appended;
import fedagg.bridge.wire.Messages.Behind;
import fedagg.bridge.wire.Messages.Entry;
import fedagg.bridge.wire.Messages.Exchange;
import fedagg.bridge.wire.Messages.Exchanged;
import fedagg.bridge.wire.Messages.Hello;
import fedagg.bridge.wire.Messages.Limits;
import fedagg.bridge.wire.Messages.Missing;
import fedagg.bridge.wire.Messages.Notice;
import fedagg.bridge.wire.Messages.Payload;
import fedagg.bridge.wire.Messages.Problem;
import fedagg.bridge.wire.Messages.Welcome;
import fedagg.bridge.wire.Messages.WireKnowledge;
import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** A parent's end in memory, with as much of docs/protocol.md as a device can meet, and very small limits. */
public final class SmallParent {
  public static final Limits LIMITS =
      new Limits(16_384, 64, 256, 1000, 60_000, 100_000, 100, 60, 60_000, 100_000, 1L << 30);

  /** {@link #LIMITS} with other bounds of an entry and of the whole set. */
  static Limits limits(long entryRows, long entryBytes, long samples) {
    return new Limits(
        LIMITS.message, LIMITS.inline, LIMITS.chunk, entryRows, entryBytes, samples, LIMITS.classes, LIMITS.wait,
        LIMITS.staged, LIMITS.requestsPerMinute, LIMITS.bytesPerMinute);
  }

  /** Of a parent that takes entries of 64 bytes, and has no more staged. */
  static Limits tight() {
    return new Limits(
        LIMITS.message, LIMITS.inline, LIMITS.chunk, LIMITS.entryRows, 64, LIMITS.samples, LIMITS.classes, LIMITS.wait, 64,
        LIMITS.requestsPerMinute, LIMITS.bytesPerMinute);
  }

  Limits limits = LIMITS;
  boolean likesLabels = true; // or finds them unfit
  final String name;
  final String node;
  public final List<Entry> log = new ArrayList<>();
  final List<byte[]> payloads = new ArrayList<>();
  private final Map<Long, String> given = new HashMap<>(); // what each sample was when the child first sent it
  final TreeSet<Long> set = new TreeSet<>();
  final Map<String, byte[]> staged = new HashMap<>();
  final List<Notice> notices = new ArrayList<>();
  public WireKnowledge taken; // the child's newest
  byte[] takenData;
  Knowledge own; // this parent's newest
  public boolean finished;
  long fence;
  public int appended; // entries that were committed, whatever was asked how often
  final List<String> refusals = new ArrayList<>();

  public SmallParent(String name, String node) {
    this.name = name;
    this.node = node;
  }

  byte[] digest() {
    return Digests.ofSamples(node, longs());
  }

  private long[] longs() {
    long[] all = new long[set.size()];
    int i = 0;
    for (long each : set) {
      all[i++] = each;
    }
    return all;
  }

  /** This parent's knowledge about all rows there are, in binary32. */
  public void publish(long version, int classes) {
    byte[] data = new byte[4 * set.size() * classes];
    own = new Knowledge(version, taken == null ? -1 : taken.version, digest(), 0, "f32", set.size(), classes, data);
  }

  /** Writes an entry as a parent does that was told to. */
  void write(int kind, long... counters) {
    byte[] payload =
        kind == Messages.FORGET
            ? Rows.samples(counters).dump(node)
            : Rows.embeddings(counters, new int[counters.length], new byte[2 * counters.length], 2).dump(node);
    commit(kind, -1, counters, payload);
  }

  private void commit(int kind, long key, long[] counters, byte[] payload) {
    for (long counter : counters) {
      if (kind == Messages.APPEND) {
        set.add(counter);
      } else {
        set.remove(counter);
      }
    }
    payloads.add(payload);
    log.add(new Entry(log.size() + 1, kind, key, counters.length, digest(), Payloads.of(payload, LIMITS)));
  }

  public Response answer(Request request) {
    try {
      Messages.Message found = found(request);
      return found == null
          ? new Response(204, new byte[0], -1)
          : new Response(found instanceof Behind ? 409 : 200, found.encode(), -1);
    } catch (Refusal refusal) {
      refusals.add(request.path + " " + refusal.code);
      return new Response(
          refusal.status, new Problem(refusal.code, "refused", refusal.retryAfter).encode(), refusal.retryAfter);
    } catch (ProtocolException error) {
      refusals.add(request.path + " " + error.getMessage());
      return new Response(400, new Problem("malformed", error.getMessage(), -1).encode(), -1);
    }
  }

  /** Answered with a status and a code. */
  static final class Refusal extends RuntimeException {
    private static final long serialVersionUID = 1L;
    final int status;
    final String code;
    final double retryAfter;

    Refusal(int status, String code, double retryAfter) {
      this.status = status;
      this.code = code;
      this.retryAfter = retryAfter;
    }
  }

  private Messages.Message found(Request request) throws ProtocolException {
    String[] path = request.path.split("/");
    switch (path[2]) {
      case "hello":
        Hello hello = Hello.decode(request.body);
        if (hello.head > log.size()) {
          throw new Refusal(409, "conflict", -1);
        }
        return new Welcome(
            1, "small", name, hello.federation, 3, 1.5e9, fence, log.size(), digest(),
            taken == null ? -1 : taken.version, "sync", 0, finished, limits,
            Collections.<Messages.Artefact>emptyList());
      case "append":
        return append(Append.decode(request.body));
      case "missing":
        List<byte[]> lacking = new ArrayList<>();
        for (byte[] chunk : Missing.decode(request.body).chunks) {
          if (!staged.containsKey(Digests.hex(chunk))) {
            lacking.add(chunk);
          }
        }
        return new Missing(lacking);
      case "chunks":
        if (!Digests.hex(Digests.of(request.body)).equals(path[3]) || request.body.length > LIMITS.chunk) {
          throw new Refusal(400, "malformed", -1);
        }
        staged.put(path[3], request.body);
        return null;
      case "exchange":
        return exchange(Exchange.decode(request.body));
      case "adopt":
        fence = Messages.Adopt.decode(request.body).fence;
        return new Adopted(fence, 0);
      default:
        throw new Refusal(404, "not_found", -1);
    }
  }

  private byte[] bytes(Payload payload) {
    if (payload.chunks.isEmpty()) {
      return payload.inline;
    }
    ByteArrayOutputStream whole = new ByteArrayOutputStream();
    for (byte[] chunk : payload.chunks) {
      byte[] part = staged.get(Digests.hex(chunk));
      if (part == null) {
        throw new Refusal(409, "missing", -1);
      }
      whole.write(part, 0, part.length);
    }
    return whole.toByteArray();
  }

  private Messages.Message append(Append asked) throws ProtocolException {
    for (Entry entry : log) {
      if (entry.key == asked.key) {
        if (!Arrays.equals(entry.payload.digest, asked.payload.digest)) {
          throw new Refusal(409, "conflict", -1);
        }
        return new Appended(entry.number, entry.digest, true);
      }
    }
    if (asked.after < log.size()) {
      return new Behind(log.size(), log.subList((int) asked.after, log.size()));
    }
    byte[] payload = bytes(asked.payload);
    if (!Arrays.equals(Digests.of(payload), asked.payload.digest)) {
      throw new Refusal(400, "malformed", -1);
    }
    Rows rows =
        asked.kind == Messages.APPEND
            ? Rows.loadEmbeddings(payload, node, 1000)
            : Rows.loadSamples(payload, node, 1000);
    boolean adds = asked.kind == Messages.APPEND;
    if (asked.rows != rows.counters.length) {
      throw new Refusal(400, "malformed", -1);
    }
    if (rows.counters.length > limits.entryRows || payload.length > limits.entryBytes
        || (adds && set.size() + rows.counters.length > limits.samples)) {
      throw new Refusal(413, "too_large", -1);
    }
    if (adds && !likesLabels && rows.counters.length > 0) {
      throw new Refusal(422, "unfit", -1);
    }
    for (int i = 0; adds && i < rows.counters.length; i++) {
      String row = rows.labels[i] + " " + Digests.hex(rows.part(i, i + 1).codes);
      String before = given.putIfAbsent(rows.counters[i], row);
      if (before != null && !before.equals(row)) { // a sample is given once
        throw new Refusal(422, "unfit", -1);
      }
    }
    commit(asked.kind, asked.key, rows.counters, payload);
    appended++;
    return new Appended(log.size(), digest(), false);
  }

  private Messages.Message exchange(Exchange asked) {
    if (asked.knowledge != null && (taken == null || asked.knowledge.version > taken.version)) {
      takenData = bytes(asked.knowledge.payload);
      taken = asked.knowledge;
    }
    List<Notice> fresh = new ArrayList<>();
    for (Notice notice : notices) {
      if (notice.number > asked.noticed) {
        fresh.add(notice);
      }
    }
    WireKnowledge news = null;
    if (own != null && own.version > asked.have) {
      news =
          new WireKnowledge(
              own.version, own.basis, own.digest, own.viewSeed, own.format, own.rows, own.classes,
              Payloads.of(own.data, LIMITS));
    }
    return new Exchanged(
        taken == null ? -1 : taken.version, log.size(), log.subList((int) Math.min(asked.head, log.size()), log.size()),
        news, fresh, finished, 0);
  }

  /** A chunk of an entry or of this parent's knowledge; null if there is none. */
  Response chunk(Request request) {
    String[] path = request.path.split("/");
    byte[] whole = null;
    if (path[2].equals("entries") && Integer.parseInt(path[3]) <= payloads.size()) {
      whole = payloads.get(Integer.parseInt(path[3]) - 1);
    } else if (path[2].equals("knowledge") && own != null && own.version == Long.parseLong(path[3])) {
      whole = own.data;
    }
    if (whole == null) {
      return new Response(404, new Problem("not_found", "gone", -1).encode(), -1);
    }
    return new Response(200, Payloads.chunk(whole, Integer.parseInt(path[4]), LIMITS), -1);
  }

  public Response any(Request request) {
    return request.method.equals("GET") ? chunk(request) : answer(request);
  }
}
