package fedagg.bridge.state;

import fedagg.bridge.wire.ChildState.TakenEntry;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Knowledge;
import fedagg.bridge.wire.Messages;
import fedagg.bridge.wire.ProtocolException;
import fedagg.bridge.wire.Rows;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/** A device's state in memory: what the journal's operations make of it, one after the other. */
final class Memory {
  /** One sample that is here. */
  static final class Sample {
    final int label;
    final byte[] code;
    final float[] x; // null: it came back from a parent, without what is private

    Sample(int label, byte[] code, float[] x) {
      this.label = label;
      this.code = code;
      this.x = x;
    }
  }

  /** An entry of the log: which samples came or went, and the set's digest behind it as the parent told it. */
  static final class LogEntry {
    final int kind;
    final long[] counters;
    final byte[] digest;
    final byte[] payloadDigest;
    final boolean whole; // false: rows were erased before it came here, so that sets cannot be told since

    LogEntry(int kind, long[] counters, byte[] digest, byte[] payloadDigest, boolean whole) {
      this.kind = kind;
      this.counters = counters;
      this.digest = digest;
      this.payloadDigest = payloadDigest;
      this.whole = whole;
    }
  }

  /** What waits for the parent. */
  static final class Batch {
    final int kind;
    final long[] counters; // of the rows in `bytes`
    final byte[] bytes;
    final List<long[]> erased; // rows that it had, those of an erasure each, oldest first: it may have been sent between any two

    Batch(int kind, long[] counters, byte[] bytes) {
      this(kind, counters, bytes, Collections.<long[]>emptyList());
    }

    private Batch(int kind, long[] counters, byte[] bytes, List<long[]> erased) {
      this.kind = kind;
      this.counters = counters;
      this.bytes = bytes;
      this.erased = erased;
    }

    /** The same from before its rows {@code gone} were erased, which left {@code left} of it. */
    Batch erasing(long[] gone, long[] left, byte[] bytesLeft) {
      List<long[]> all = new ArrayList<>(erased);
      all.add(gone);
      return new Batch(kind, left, bytesLeft, all);
    }
  }

  /** Knowledge and the parent on whose link it is. */
  static final class Said {
    final String parent;
    final Knowledge knowledge;

    Said(String parent, Knowledge knowledge) {
      this.parent = parent;
      this.knowledge = knowledge;
    }
  }

  private static final long MOST = 1L << 61; // no node gets there by counting: what a log names from here on raises nothing

  final String node;
  /**
   * Among them "counter" and "key", the next sample's and batch's; "given": counters below it are in the parent's log;
   * "fresh", 1: the parent may have more of this node than was seen here.
   */
  final Map<String, Long> numbers = new HashMap<>();
  final Map<String, String> texts = new HashMap<>();
  final TreeMap<Long, Sample> samples = new TreeMap<>();
  final List<LogEntry> log = new ArrayList<>();
  final TreeSet<Long> shared = new TreeSet<>(); // the set behind the log's last entry
  final TreeMap<Long, Batch> outbox = new TreeMap<>();
  /** What was to be forgotten by a parent that was left before it had answered: its rows may still come by the next one. */
  final TreeSet<Long> gone = new TreeSet<>();

  long outboxBytes;
  boolean erases; // an operation has erased something, which the journal that led here still holds
  Said heard;
  Said told;

  Memory(String node) {
    this.node = node;
  }

  long number(String key) {
    Long value = numbers.get(key);
    return value == null ? 0 : value;
  }

  boolean isFresh() {
    return number("fresh") != 0;
  }

  /** The number of the next sample; as long as more of a log may come, it is none that this log could lead to. */
  long nextCounter() {
    return isFresh() ? number("counter") : Math.max(number("counter"), number("given"));
  }

  /** Whether a node that counts {@code what} has to go on above {@code given}, as a log says. */
  boolean isBehind(String what, long given) {
    return number(what) <= given && given < MOST;
  }

  byte[] headDigest() {
    return log.isEmpty() ? digest() : log.get(log.size() - 1).digest;
  }

  private byte[] digest() {
    return Digests.ofSamples(node, longs(shared));
  }

  void putSample(long counter, Sample sample) {
    samples.put(counter, sample);
    numbers.put("counter", Math.max(number("counter"), counter + 1));
  }

  void putBatch(long key, Batch batch) {
    outbox.put(key, batch);
    outboxBytes += batch.bytes.length;
    numbers.put("key", Math.max(number("key"), key + 1));
  }

  void withdraw(long key) {
    Batch gone = outbox.remove(key);
    outboxBytes -= gone == null ? 0 : gone.bytes.length;
  }

  void acknowledge(long key, long entry, byte[] told) throws ProtocolException {
    Batch batch = outbox.get(key);
    if (batch == null) {
      return;
    }
    checkNext(entry);
    long[] committed = committed(batch, told);
    add(batch.kind, committed, told, Digests.of(batch.bytes), true);
    withdraw(key);
  }

  /**
   * The rows that the parent has committed, by the set that it tells: those that are left, or those from before the last
   * erasure, or from before the last two, and so on, for it was sent as it was then.
   */
  private long[] committed(Batch batch, byte[] told) {
    TreeSet<Long> rows = new TreeSet<>(asList(batch.counters));
    TreeSet<Long> set = new TreeSet<>(shared);
    set.addAll(rows);
    for (int left = batch.erased.size(); left > 0; left--) {
      if (Arrays.equals(told, Digests.ofSamples(node, longs(set)))) {
        return longs(rows);
      }
      List<Long> gone = asList(batch.erased.get(left - 1));
      rows.addAll(gone);
      set.addAll(gone);
    }
    // no set of theirs: the log refuses it, or has lost track of sets and takes what is left
    return Arrays.equals(told, Digests.ofSamples(node, longs(set))) ? longs(rows) : batch.counters;
  }

  /** Erases samples, and their rows in what waits for the parent. That they be forgotten there is the caller's to put. */
  void erase(long[] counters) {
    erases = true;
    Set<Long> gone = new HashSet<>(asList(counters));
    samples.keySet().removeAll(gone);
    for (Map.Entry<Long, Batch> each : outbox.entrySet()) {
      Batch batch = each.getValue();
      if (batch.kind == Messages.APPEND && !Collections.disjoint(asList(batch.counters), gone)) {
        Batch left = without(batch, gone);
        outboxBytes += left.bytes.length - batch.bytes.length;
        each.setValue(left);
      }
    }
  }

  private Batch without(Batch batch, Set<Long> gone) {
    Rows rows;
    try {
      rows = Rows.loadEmbeddings(batch.bytes, node, Integer.MAX_VALUE);
    } catch (ProtocolException error) {
      throw new IllegalStateException("outbox: a batch cannot be read: " + error.getMessage(), error);
    }
    Rows left = rows.without(gone);
    TreeSet<Long> erased = new TreeSet<>(asList(batch.counters));
    erased.removeAll(asList(left.counters));
    return batch.erasing(longs(erased), left.counters, left.dump(node));
  }

  /** What batches that wait order the parent to forget. */
  Set<Long> waitToBeForgotten() {
    Set<Long> all = new HashSet<>();
    for (Batch batch : outbox.values()) {
      if (batch.kind == Messages.FORGET) {
        all.addAll(asList(batch.counters));
      }
    }
    return all;
  }

  /** Those of {@code gone} that the parent has, and that no batch that waits orders it to forget. */
  long[] late() {
    TreeSet<Long> late = new TreeSet<>(gone);
    late.retainAll(shared);
    if (!late.isEmpty()) {
      late.removeAll(waitToBeForgotten());
    }
    return longs(late);
  }

  void follow(TakenEntry entry, long mostRows) throws ProtocolException {
    checkNext(entry.number);
    if (entry.kind == Messages.APPEND) {
      Rows rows = Rows.loadEmbeddings(entry.payload, node, mostRows);
      Set<Long> unwanted = waitToBeForgotten();
      unwanted.addAll(gone);
      for (int i = 0; i < rows.counters.length; i++) {
        if (unwanted.contains(rows.counters[i])) {
          erases = true; // the journal has the row now
        } else if (!samples.containsKey(rows.counters[i])) {
          byte[] code = Arrays.copyOfRange(rows.codes, i * rows.codeBytes, (i + 1) * rows.codeBytes);
          samples.put(rows.counters[i], new Sample(rows.labels[i], code, null));
        }
      }
      noteCounters(rows.counters);
      add(entry.kind, rows.counters, entry.digest, Digests.of(entry.payload), rows.counters.length == entry.rows);
    } else if (entry.kind == Messages.FORGET) {
      Rows rows = Rows.loadSamples(entry.payload, node, mostRows);
      noteCounters(rows.counters);
      add(entry.kind, rows.counters, entry.digest, Digests.of(entry.payload), true);
    } else {
      throw new ProtocolException("entry " + entry.number + ": got a release of a device's own rows, expected none");
    }
  }

  /** What this node gave in a state that it lost is named in its parent's log, forgotten samples, too. */
  private void noteCounters(long[] given) {
    for (long counter : given) {
      if (isBehind("given", counter)) {
        numbers.put("given", counter + 1);
      }
    }
  }

  private void checkNext(long entry) throws ProtocolException {
    if (entry != log.size() + 1) {
      throw new ProtocolException("log: got entry " + entry + ", expected " + (log.size() + 1));
    }
  }

  private void add(int kind, long[] counters, byte[] told, byte[] payloadDigest, boolean whole)
      throws ProtocolException {
    for (long counter : counters) {
      if (kind == Messages.APPEND) {
        shared.add(counter);
      } else {
        shared.remove(counter);
      }
    }
    if (kind == Messages.FORGET) {
      erase(counters); // an order to forget reaches what is private, too
    }
    boolean all = whole && (log.isEmpty() || log.get(log.size() - 1).whole);
    if (all && !Arrays.equals(told, digest())) {
      throw new ProtocolException(
          "log: the parent names set " + Digests.hex(told).substring(0, 12) + " at entry " + (log.size() + 1)
              + ", its entries leave another one here");
    }
    log.add(new LogEntry(kind, counters, told, payloadDigest, all));
  }

  void putLogEntry(LogEntry entry) {
    for (long counter : entry.counters) {
      if (entry.kind == Messages.APPEND) {
        shared.add(counter);
      } else {
        shared.remove(counter);
      }
    }
    log.add(entry);
  }

  void clearLink(long fence) {
    log.clear();
    shared.clear();
    gone.addAll(waitToBeForgotten());
    outbox.clear();
    outboxBytes = 0;
    heard = null;
    told = null;
    numbers.put("fence", fence);
    numbers.put("noticed", 0L); // another parent numbers its own notices
    numbers.remove("moving");
    String url = texts.remove("moving.url");
    if (url != null) {
      texts.put("home", url);
    }
  }

  /** The counters of the set that {@code digest} names, or null if no entry of the log left it. */
  long[] named(byte[] digest) {
    int found = log.size() - 1;
    while (found >= 0 && !Arrays.equals(log.get(found).digest, digest)) {
      found--;
    }
    if (found < 0) {
      return null;
    }
    TreeSet<Long> set = new TreeSet<>();
    for (LogEntry entry : log.subList(0, found + 1)) {
      for (long counter : entry.counters) {
        if (entry.kind == Messages.APPEND) {
          set.add(counter);
        } else {
          set.remove(counter);
        }
      }
    }
    return longs(set);
  }

  /** The embeddings of these samples, all of which are here; null otherwise. */
  byte[] dump(long[] counters) {
    int[] labels = new int[counters.length];
    int codeBytes = 0;
    for (long counter : counters) {
      Sample sample = samples.get(counter);
      if (sample == null) {
        return null;
      }
      codeBytes = sample.code.length;
    }
    byte[] codes = new byte[Math.multiplyExact(counters.length, codeBytes)];
    for (int i = 0; i < counters.length; i++) {
      Sample sample = samples.get(counters[i]);
      labels[i] = sample.label;
      System.arraycopy(sample.code, 0, codes, i * codeBytes, codeBytes);
    }
    return Rows.embeddings(counters, labels, codes, codeBytes).dump(node);
  }

  static List<Long> asList(long[] values) {
    List<Long> all = new ArrayList<>(values.length);
    for (long value : values) {
      all.add(value);
    }
    return all;
  }

  static long[] longs(Iterable<Long> values) {
    List<Long> all = new ArrayList<>();
    for (Long value : values) {
      all.add(value);
    }
    long[] out = new long[all.size()];
    for (int i = 0; i < out.length; i++) {
      out[i] = all.get(i);
    }
    return out;
  }
}
