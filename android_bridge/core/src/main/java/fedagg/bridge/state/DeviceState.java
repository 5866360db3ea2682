package fedagg.bridge.state;

import fedagg.bridge.wire.ChildState;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Knowledge;
import fedagg.bridge.wire.Messages;
import fedagg.bridge.wire.MsgpackWriter;
import fedagg.bridge.wire.ProtocolException;
import fedagg.bridge.wire.Rows;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.ReentrantLock;

/**
 * What a device must not lose, in a folder of its own: private samples, the outbox, its log of the link, the knowledge of
 * both ends, and facts. Kept in memory, and in a journal that is synced before a change counts; what is killed when, a
 * transaction is there whole or not at all. One process at a time; any of its threads.
 */
public final class DeviceState implements ChildState, AutoCloseable {
  private static final Messages.Limits OWN = Messages.Limits.initial();
  private static final long SMALL = 1 << 20; // bytes of a journal that is not worth rewriting
  private static final int LONGEST_PAUSE = 64; // commits between rewrites that fail

  private static final Set<Path> OPEN = ConcurrentHashMap.newKeySet(); // real paths, in this process

  private final Path folder;
  private final Path place;
  private final String node;
  private final FileChannel lockFile;
  private final FileLock owned;
  private final ReentrantLock lock = new ReentrantLock();
  private Journal journal;
  private Memory memory;
  private MsgpackWriter pending; // null outside of a transaction
  private int depth; // of transactions inside each other
  private boolean changed;
  private boolean broken; // memory is not what the journal says
  private boolean closed;
  private boolean doomed; // a part of the transaction was rolled back, so all of it will be
  private long rewritten;
  private int pause; // commits until the next rewrite is tried, and how many they were the last time
  private int lastPause;

  private DeviceState(Path folder, Path place, String node, FileChannel lockFile, FileLock owned) {
    this.folder = folder;
    this.place = place;
    this.node = node;
    this.lockFile = lockFile;
    this.owned = owned;
  }

  /**
   * Opens a node's state, or makes one. Throws StorageException for a folder that is damaged, in use or another node's.
   *
   * <p>Samples are taken in before the parent has said what the node gave in a state that it lost, and their numbers cannot
   * change after that: so a new state begins to count at random, of 2^52 places.
   */
  public static DeviceState open(Path folder, String node) throws StorageException {
    return open(folder, node, new SecureRandom().nextLong() >>> 12);
  }

  /** As {@link #open(Path, String)}; a new state's first sample has the number {@code first}. */
  public static DeviceState open(Path folder, String node, long first) throws StorageException {
    try {
      Files.createDirectories(folder);
      // by itself, before the lock file: closing any channel of it would free this process's lock, whoever holds it
      Path place = folder.toRealPath();
      if (!OPEN.add(place)) {
        throw inUse(folder);
      }
      DeviceState state = null;
      boolean done = false;
      try {
        state = locked(folder, place, node);
        state.load();
        state.claim(first);
        state.eraseWhatWaits();
        state.tidy(); // what was forgotten before a kill may still be in the journal
        done = true;
      } finally { // after an Error, too: memory may do for the next one who opens it in this process
        if (!done && state != null) {
          state.close();
        } else if (!done) {
          OPEN.remove(place);
        }
      }
      return state;
    } catch (IOException error) {
      throw new StorageException(folder + ": cannot be opened: " + error.getMessage(), error);
    }
  }

  private static DeviceState locked(Path folder, Path place, String node) throws IOException, StorageException {
    FileChannel lockFile =
        FileChannel.open(folder.resolve("lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    FileLock owned;
    try {
      owned = lockFile.tryLock();
    } catch (OverlappingFileLockException error) { // another class loader's copy of this class has it
      owned = null;
    }
    if (owned == null) {
      lockFile.close();
      throw inUse(folder);
    }
    return new DeviceState(folder, place, node, lockFile, owned);
  }

  private static StorageException inUse(Path folder) {
    return new StorageException(folder + ": another agent has this state open; stop it first", null);
  }

  private void load() throws IOException {
    List<byte[]> records = new ArrayList<>();
    if (journal != null) {
      journal.close();
    }
    journal = Journal.open(folder.resolve("journal"), records);
    Memory fresh = new Memory(node);
    try {
      for (byte[] record : records) {
        Operations.apply(record, fresh);
      }
    } catch (ProtocolException | RuntimeException error) {
      throw new Journal.DamagedException(
          folder + ": its journal says what cannot be (" + error.getMessage() + "); restore it, or enrol a new node");
    }
    memory = fresh;
    broken = false;
    rewritten = Math.max(SMALL, journal.size());
  }

  /** An older version of this library left rows in batches that wait although their samples were forgotten. */
  private void eraseWhatWaits() {
    TreeSet<Long> left = new TreeSet<>();
    for (Memory.Batch batch : memory.outbox.values()) {
      if (batch.kind == Messages.APPEND) {
        left.addAll(Memory.asList(batch.counters));
      }
    }
    left.retainAll(memory.waitToBeForgotten());
    if (left.isEmpty()) {
      return;
    }
    long[] gone = Memory.longs(left);
    try {
      transact(
          out -> {
            Operations.drop(change(), gone);
            memory.erase(gone);
          });
    } catch (StorageException error) {
      // no room: the device can do much without, and the next one that opens it tries again
    }
  }

  private void claim(long first) throws StorageException {
    String known = memory.texts.get("node");
    if (known == null) {
      transact(
          out -> {
            change();
            Operations.text(out, "node", node);
            memory.texts.put("node", node);
            if (memory.numbers.isEmpty()) { // else an older version's, which may have asked for what waits: it is not fresh
              set("fresh", 1);
              set("counter", first);
            }
          });
    } else if (!known.equals(node)) {
      throw new StorageException(folder + ": the state of node " + known + ", expected " + node, null);
    }
  }

  @Override
  public void close() throws StorageException {
    lock.lock();
    try {
      if (closed) {
        return;
      }
      closed = true;
      try {
        if (journal != null) {
          journal.close();
        }
        owned.release();
      } finally {
        lockFile.close();
        OPEN.remove(place);
      }
    } catch (IOException error) {
      throw new StorageException(folder + ": " + error.getMessage(), error);
    } finally {
      lock.unlock();
    }
  }

  // transactions

  @Override
  public void begin() {
    lock.lock();
    if (++depth == 1) {
      if (broken) {
        recover();
      }
      pending = new MsgpackWriter();
      changed = false;
      doomed = false;
    }
  }

  @Override
  public void commit() throws StorageException {
    try {
      if (depth > 1) {
        return;
      }
      if (doomed) {
        recover();
        throw new StorageException(folder + ": a part of a change failed, so nothing of it was kept", null);
      }
      if (!changed) {
        return;
      }
      requireWhole();
      try {
        journal.append(pending.toBytes());
      } catch (IOException error) {
        recover();
        throw new StorageException(folder + ": could not be written: " + error.getMessage(), error);
      }
      tidy();
    } finally {
      leave();
    }
  }

  /** Rewrites the journal if that is due. The change is kept already: what fails here is tried again some changes later. */
  private void tidy() {
    if (!memory.erases && journal.size() <= 2 * rewritten) {
      return;
    }
    if (pause > 0) {
      pause--; // a full disk: all of the journal would be written in vain beside each change
      return;
    }
    try {
      journal.rewrite(Operations.snapshot(memory));
      rewritten = Math.max(SMALL, journal.size());
      memory.erases = false;
      lastPause = 0;
    } catch (IOException error) { // the old journal stands
      lastPause = Math.min(LONGEST_PAUSE, 2 * lastPause + 1);
      pause = lastPause;
    }
  }

  @Override
  public void rollback() {
    try {
      doomed = true;
      if (depth == 1 && changed) {
        recover();
      }
    } finally {
      leave();
    }
  }

  private void leave() {
    if (--depth == 0) {
      pending = null;
    }
    lock.unlock();
  }

  /** Back to what the journal says. */
  private void recover() {
    broken = true;
    changed = false;
    if (closed) {
      return; // the folder may be another agent's by now
    }
    try {
      load();
    } catch (IOException error) {
      // stays broken; the next use tries again
    }
  }

  private void requireWhole() throws StorageException {
    if (closed) {
      throw new StorageException(folder + ": this state was closed; open it again", null);
    }
    if (broken) {
      throw new StorageException(folder + ": could not be read back after a failed write", null);
    }
  }

  /** Runs {@code change} as a transaction of its own, or as part of the one that is open. */
  private void transact(Change change) throws StorageException {
    begin();
    boolean done = false;
    try {
      requireWhole();
      change.run(pending);
      done = true;
    } finally {
      if (!done) {
        rollback();
      }
    }
    commit();
  }

  private interface Change {
    void run(MsgpackWriter out);
  }

  private <T> T read(Query<T> query) {
    lock.lock();
    try {
      return query.of(memory);
    } finally {
      lock.unlock();
    }
  }

  private interface Query<T> {
    T of(Memory memory);
  }

  private MsgpackWriter change() {
    changed = true;
    return pending;
  }

  // samples

  /**
   * Takes in private samples and puts their embeddings into the outbox, in one step.
   *
   * @param xs each sample on the model's scale
   * @param codes [samples, codeBytes]
   * @param mostBytes of the outbox; beyond it nothing is taken in
   * @return the first sample's counter; the others follow
   */
  public long take(List<float[]> xs, int[] labels, byte[] codes, int codeBytes, long mostBytes)
      throws StorageException, OutboxFullException {
    int count = xs.size();
    lock.lock();
    try {
      long waiting = memory.outboxBytes + codes.length;
      if (waiting > mostBytes) {
        throw new OutboxFullException(
            "outbox: " + memory.outboxBytes + " bytes wait for the parent, " + codes.length
                + " more would be over its " + mostBytes + "; new samples are refused until it can be reached");
      }
      long first = memory.nextCounter();
      transact(
          out -> {
            change();
            long[] counters = new long[count];
            for (int i = 0; i < count; i++) {
              counters[i] = first + i;
              byte[] code = Arrays.copyOfRange(codes, i * codeBytes, (i + 1) * codeBytes);
              Memory.Sample sample = new Memory.Sample(labels[i], code, xs.get(i).clone());
              Operations.sample(out, counters[i], sample);
              memory.putSample(counters[i], sample);
            }
            byte[] payload = Rows.embeddings(counters, labels, codes, codeBytes).dump(node);
            put(out, new Memory.Batch(Messages.APPEND, counters, payload));
          });
      return first;
    } finally {
      lock.unlock();
    }
  }

  /** Erases samples here, and has every ancestor forget them. Those that are not here are passed over. */
  public void forget(long[] counters) throws StorageException {
    lock.lock();
    try {
      TreeSet<Long> known = new TreeSet<>();
      for (long counter : counters) {
        if (memory.samples.containsKey(counter)) {
          known.add(counter);
        }
      }
      if (known.isEmpty()) {
        return;
      }
      long[] gone = Memory.longs(known);
      transact(
          out -> {
            Operations.drop(change(), gone);
            memory.erase(gone);
            orderToForget(gone);
            pause = 0; // the disk may have room by now, and what is forgotten stays in the journal no longer than it must
          });
    } finally {
      lock.unlock();
    }
  }

  /** Puts a batch behind those that wait; cut, if it is over what any parent takes. */
  private void put(MsgpackWriter out, Memory.Batch batch) {
    put(out, batch, OWN.entryRows, OWN.entryBytes);
  }

  private void put(MsgpackWriter out, Memory.Batch batch, long mostRows, long mostBytes) {
    List<Memory.Batch> parts;
    try {
      parts = Cut.of(batch, node, mostRows, mostBytes);
    } catch (ProtocolException error) {
      throw new IllegalStateException("outbox: a batch cannot be read: " + error.getMessage(), error);
    }
    for (Memory.Batch part : parts) {
      long key = memory.number("key");
      Operations.batch(out, key, part);
      memory.putBatch(key, part);
    }
  }

  /** The counters of all private samples, ascending. */
  public long[] counters() {
    return read(m -> Memory.longs(m.samples.keySet()));
  }

  /** A sample on the model's scale, or null if it is not here. Not to be changed. */
  public float[] sample(long counter) {
    return read(m -> m.samples.containsKey(counter) ? m.samples.get(counter).x : null);
  }

  /** A sample's label, -1 if it is not here. */
  public int label(long counter) {
    return read(m -> m.samples.containsKey(counter) ? m.samples.get(counter).label : -1);
  }

  /** A sample's embedding, or null if it is not here. Not to be changed. */
  public byte[] code(long counter) {
    return read(m -> m.samples.containsKey(counter) ? m.samples.get(counter).code : null);
  }

  /** The samples that the parent has, in the order of knowledge's rows. */
  public long[] shared() {
    return read(m -> Memory.longs(m.shared));
  }

  /** The samples of the set that {@code digest} names, or null if this link never had it. */
  public long[] named(byte[] digest) {
    return read(m -> m.named(digest));
  }

  /** Bytes that wait for the parent. */
  public long outboxBytes() {
    return read(m -> m.outboxBytes);
  }

  // facts

  public long number(String key, long otherwise) {
    return read(m -> m.numbers.containsKey(key) ? m.numbers.get(key) : otherwise);
  }

  public String text(String key) {
    return read(m -> m.texts.get(key));
  }

  public void putNumber(String key, long value) throws StorageException {
    transact(out -> set(key, value));
  }

  public void putText(String key, String value) throws StorageException {
    transact(
        out -> {
          change();
          Operations.text(out, key, value);
          memory.texts.put(key, value);
        });
  }

  /** Go to the parent at {@code url} from now on; the number of the move. */
  public long beginMove(String url) throws StorageException {
    lock.lock();
    try {
      long fence = Math.max(memory.number("fence"), memory.number("tried")) + 1;
      begin();
      try {
        putNumber("tried", fence);
        putNumber("moving", fence);
        putText("moving.url", url);
      } finally {
        commit();
      }
      return fence;
    } finally {
      lock.unlock();
    }
  }

  // the link, as its end sees it; these run inside the end's transaction

  @Override
  public long head() {
    return read(m -> (long) m.log.size());
  }

  @Override
  public byte[] headDigest() {
    return read(Memory::headDigest);
  }

  @Override
  public boolean joined() {
    return read(m -> !m.isFresh());
  }

  @Override
  public void join() {
    if (joined()) {
      return;
    }
    if (!memory.log.isEmpty()) { // batches of the state that was lost may have had these keys
      putAgain(change(), 0, OWN.entryRows, OWN.entryBytes);
    }
    set("fresh", 0);
  }

  @Override
  public long pendingKey() {
    return read(m -> m.outbox.isEmpty() ? -1 : m.outbox.firstKey());
  }

  @Override
  public long[] pendingKeys() {
    return read(m -> Memory.longs(m.outbox.keySet()));
  }

  @Override
  public void split(long mostRows, long mostBytes) throws StorageException {
    lock.lock();
    try {
      long first = -1;
      for (Map.Entry<Long, Memory.Batch> each : memory.outbox.entrySet()) {
        if (Cut.isOver(each.getValue(), mostRows, mostBytes)) {
          first = each.getKey();
          break;
        }
      }
      if (first < 0) {
        return;
      }
      long from = first;
      transact(
          out -> {
            change();
            putAgain(out, from, mostRows, mostBytes);
          });
    } finally {
      lock.unlock();
    }
  }

  /** What waits from batch {@code from} on gets new keys, in its order; cut, where it is over these bounds. */
  private void putAgain(MsgpackWriter out, long from, long mostRows, long mostBytes) {
    for (Map.Entry<Long, Memory.Batch> each : new TreeMap<>(memory.outbox.tailMap(from)).entrySet()) {
      Operations.withdraw(out, each.getKey());
      memory.withdraw(each.getKey());
      put(out, each.getValue(), mostRows, mostBytes);
    }
  }

  @Override
  public int batchKind(long key) {
    return read(m -> m.outbox.containsKey(key) ? m.outbox.get(key).kind : 0);
  }

  @Override
  public WaitingBatch batch(long key) {
    return read(
        m -> {
          Memory.Batch found = m.outbox.get(key);
          return found == null ? null : new WaitingBatch(found.kind, found.counters.length, found.bytes);
        });
  }

  /** 0 if there is no such batch. */
  public int batchRows(long key) {
    return read(m -> m.outbox.containsKey(key) ? m.outbox.get(key).counters.length : 0);
  }

  /** Null if there is no such batch. */
  public byte[] batchBytes(long key) {
    return read(m -> m.outbox.containsKey(key) ? m.outbox.get(key).bytes : null);
  }

  @Override
  public void acknowledge(long key, long entry, byte[] digest) throws ProtocolException {
    Memory.Batch batch = memory.outbox.get(key);
    if (batch == null) {
      return;
    }
    Operations.acknowledge(change(), key, entry, digest);
    memory.acknowledge(key, entry, digest);
  }

  @Override
  public void follow(TakenEntry entry) throws ProtocolException {
    take(entry);
    orderToForget(memory.late());
  }

  private void take(TakenEntry entry) throws ProtocolException {
    Operations.follow(change(), entry);
    memory.follow(entry, Integer.MAX_VALUE);
    if (memory.isBehind("key", entry.key)) {
      set("key", entry.key + 1);
    }
  }

  private void orderToForget(long[] counters) {
    if (counters.length > 0) {
      put(change(), new Memory.Batch(Messages.FORGET, counters, Rows.samples(counters).dump(node)));
    }
  }

  @Override
  public long fence() {
    return number("fence", 0);
  }

  @Override
  public long moving() {
    return number("moving", 0);
  }

  @Override
  public void setFence(long fence) {
    set("fence", fence);
  }

  private void set(String key, long value) {
    Operations.number(change(), key, value);
    memory.numbers.put(key, value);
  }

  @Override
  public byte[] find(byte[] digest) {
    return read(
        m -> {
          for (Memory.Batch batch : m.outbox.values()) {
            if (Arrays.equals(Digests.of(batch.bytes), digest)) {
              return batch.bytes;
            }
          }
          for (Memory.LogEntry entry : m.log) {
            if (entry.kind == Messages.APPEND && Arrays.equals(entry.payloadDigest, digest)) {
              byte[] again = m.dump(entry.counters);
              if (again != null && Arrays.equals(Digests.of(again), digest)) {
                return again;
              }
            }
          }
          return null;
        });
  }

  @Override
  public void rebase(List<TakenEntry> log, long fence) throws ProtocolException {
    TreeSet<Long> mine = new TreeSet<>(memory.samples.keySet());
    Operations.clear(change(), fence);
    memory.clearLink(fence);
    TreeSet<Long> bare = new TreeSet<>(); // the parent has them without the label that they have here
    for (TakenEntry entry : log) {
      if (entry.kind == Messages.APPEND) {
        Rows rows = Rows.loadEmbeddings(entry.payload, node, Integer.MAX_VALUE);
        for (int i = 0; i < rows.counters.length; i++) {
          Memory.Sample known = memory.samples.get(rows.counters[i]);
          if (rows.labels[i] < 0 && known != null && known.label >= 0) {
            bare.add(rows.counters[i]);
          }
        }
      }
      take(entry);
    }
    TreeSet<Long> lacking = new TreeSet<>(mine);
    lacking.removeAll(memory.shared);
    bare.retainAll(memory.shared);
    lacking.addAll(bare);
    lacking.retainAll(memory.samples.keySet());
    if (!lacking.isEmpty()) {
      long[] counters = Memory.longs(lacking);
      put(pending, new Memory.Batch(Messages.APPEND, counters, memory.dump(counters)));
    }
    long[] gone = joined() ? without(memory.shared, mine) : memory.late(); // a new state lacks what it has lost, not forgotten
    if (gone.length > 0) {
      Operations.drop(pending, gone);
      memory.erase(gone);
      orderToForget(gone);
    }
    set("fresh", 0); // the whole log is here, and what waits was put behind it
  }

  private static long[] without(Set<Long> all, Set<Long> those) {
    TreeSet<Long> left = new TreeSet<>(all);
    left.removeAll(those);
    return Memory.longs(left);
  }

  @Override
  public Knowledge heard(String parent) {
    return read(m -> m.heard != null && m.heard.parent.equals(parent) ? m.heard.knowledge : null);
  }

  @Override
  public Knowledge told(String parent) {
    return read(m -> m.told != null && m.told.parent.equals(parent) ? m.told.knowledge : null);
  }

  @Override
  public void hear(String parent, Knowledge knowledge) {
    Knowledge known = heard(parent);
    if (known != null && knowledge.version <= known.version) {
      return; // a late copy
    }
    Memory.Said said = new Memory.Said(parent, knowledge);
    Operations.knowledge(change(), true, said);
    memory.heard = said;
  }

  /** This node's knowledge for {@code parent}, which is given to it from now on. */
  public void tell(String parent, Knowledge knowledge) throws StorageException {
    transact(
        out -> {
          change();
          Memory.Said said = new Memory.Said(parent, knowledge);
          Operations.knowledge(out, false, said);
          memory.told = said;
        });
  }

  @Override
  public long noticed() {
    return number("noticed", 0);
  }
}
