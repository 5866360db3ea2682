package fedagg.bridge.state;

import fedagg.bridge.wire.ChildState.TakenEntry;
import fedagg.bridge.wire.Knowledge;
import fedagg.bridge.wire.MsgpackReader;
import fedagg.bridge.wire.MsgpackWriter;
import fedagg.bridge.wire.ProtocolException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** What a journal's record holds: operations on {@link Memory}, as msgpack, one after the other. */
final class Operations {
  private static final int NUMBER = 1;
  private static final int TEXT = 2;
  private static final int SAMPLE = 3;
  private static final int DROP = 4;
  private static final int BATCH = 5;
  private static final int ACKNOWLEDGE = 6;
  private static final int FOLLOW = 7;
  private static final int LOG_ENTRY = 8;
  private static final int KNOWLEDGE = 9;
  private static final int CLEAR = 10;
  private static final int ERASED = 11;
  private static final int WITHDRAW = 12;
  private static final int GONE = 13;

  private static final int MOST = 1 << 30;

  private Operations() {}

  static void number(MsgpackWriter out, String key, long value) {
    out.integer(NUMBER).text(key).integer(value);
  }

  static void text(MsgpackWriter out, String key, String value) {
    out.integer(TEXT).text(key).text(value);
  }

  static void sample(MsgpackWriter out, long counter, Memory.Sample sample) {
    out.integer(SAMPLE).integer(counter).integer(sample.label).bytes(sample.code);
    if (sample.x == null) {
      out.nil();
    } else {
      ByteBuffer raw = ByteBuffer.allocate(4 * sample.x.length).order(ByteOrder.LITTLE_ENDIAN);
      raw.asFloatBuffer().put(sample.x);
      out.bytes(raw.array());
    }
  }

  static void drop(MsgpackWriter out, long[] counters) {
    out.integer(DROP).bytes(pack(counters));
  }

  static void batch(MsgpackWriter out, long key, Memory.Batch batch) {
    out.integer(BATCH).integer(key).integer(batch.kind).bytes(pack(batch.counters)).bytes(batch.bytes);
    for (long[] gone : batch.erased) {
      out.integer(ERASED).integer(key).bytes(pack(gone));
    }
  }

  /** A batch leaves the outbox for others that take its place. */
  static void withdraw(MsgpackWriter out, long key) {
    out.integer(WITHDRAW).integer(key);
  }

  static void acknowledge(MsgpackWriter out, long key, long entry, byte[] digest) {
    out.integer(ACKNOWLEDGE).integer(key).integer(entry).bytes(digest);
  }

  static void follow(MsgpackWriter out, TakenEntry entry) {
    out.integer(FOLLOW).integer(entry.number).integer(entry.kind).integer(entry.rows).bytes(entry.digest)
        .bytes(entry.payload);
  }

  static void logEntry(MsgpackWriter out, Memory.LogEntry entry) {
    out.integer(LOG_ENTRY).integer(entry.kind).bytes(pack(entry.counters)).bytes(entry.digest)
        .bytes(entry.payloadDigest).bool(entry.whole);
  }

  static void knowledge(MsgpackWriter out, boolean heard, Memory.Said said) {
    Knowledge k = said.knowledge;
    out.integer(KNOWLEDGE).bool(heard).text(said.parent).integer(k.version).integer(k.basis).bytes(k.digest)
        .integer(k.viewSeed).text(k.format).integer(k.rows).integer(k.classes).bytes(k.data);
  }

  static void clear(MsgpackWriter out, long fence) {
    out.integer(CLEAR).integer(fence);
  }

  /** All of a memory as records, a few samples each. */
  static List<byte[]> snapshot(Memory memory) {
    List<byte[]> records = new ArrayList<>();
    MsgpackWriter out = new MsgpackWriter();
    int count = 0;
    for (Map.Entry<Long, Memory.Sample> each : memory.samples.entrySet()) {
      sample(out, each.getKey(), each.getValue());
      if (++count % 256 == 0) {
        records.add(out.toBytes());
        out = new MsgpackWriter();
      }
    }
    for (Memory.LogEntry entry : memory.log) {
      logEntry(out, entry);
    }
    if (!memory.gone.isEmpty()) {
      out.integer(GONE).bytes(pack(Memory.longs(memory.gone)));
    }
    for (Map.Entry<Long, Memory.Batch> each : memory.outbox.entrySet()) {
      batch(out, each.getKey(), each.getValue());
    }
    for (Map.Entry<String, Long> each : memory.numbers.entrySet()) {
      number(out, each.getKey(), each.getValue());
    }
    for (Map.Entry<String, String> each : memory.texts.entrySet()) {
      text(out, each.getKey(), each.getValue());
    }
    if (memory.heard != null) {
      knowledge(out, true, memory.heard);
    }
    if (memory.told != null) {
      knowledge(out, false, memory.told);
    }
    records.add(out.toBytes());
    return records;
  }

  /** Does what a record says. */
  static void apply(byte[] record, Memory memory) throws ProtocolException {
    MsgpackReader in = new MsgpackReader(record);
    while (in.hasMore()) {
      one(in, memory);
    }
  }

  private static void one(MsgpackReader in, Memory memory) throws ProtocolException {
    int kind = (int) in.integer("operation", NUMBER, GONE);
    switch (kind) {
      case NUMBER:
        memory.numbers.put(in.text("key", 1, 64), integer(in));
        break;
      case TEXT:
        memory.texts.put(in.text("key", 1, 64), in.text("value", 0, 4096));
        break;
      case SAMPLE:
        long counter = integer(in);
        int label = (int) in.integer("label", -1, Integer.MAX_VALUE);
        byte[] code = bytes(in);
        memory.putSample(counter, new Memory.Sample(label, code, in.isNil("x") ? null : floats(bytes(in))));
        break;
      case DROP:
        memory.erase(unpack(bytes(in)));
        break;
      case BATCH:
        long key = integer(in);
        memory.putBatch(key, new Memory.Batch((int) integer(in), unpack(bytes(in)), bytes(in)));
        break;
      case ACKNOWLEDGE:
        memory.acknowledge(integer(in), integer(in), bytes(in));
        break;
      case FOLLOW:
        memory.follow(
            new TakenEntry(integer(in), (int) integer(in), integer(in), bytes(in), bytes(in)), Integer.MAX_VALUE);
        break;
      case LOG_ENTRY:
        memory.putLogEntry(
            new Memory.LogEntry(
                (int) integer(in), unpack(bytes(in)), bytes(in), bytes(in), in.bool("whole")));
        break;
      case KNOWLEDGE:
        said(in, memory);
        break;
      case CLEAR:
        memory.clearLink(integer(in));
        break;
      case WITHDRAW:
        memory.withdraw(integer(in));
        break;
      case GONE:
        memory.gone.addAll(Memory.asList(unpack(bytes(in))));
        break;
      default: // ERASED
        long of = integer(in);
        Memory.Batch batch = memory.outbox.get(of);
        if (batch == null) {
          throw new ProtocolException("erased: got batch " + of + ", expected one that waits");
        }
        memory.outbox.put(of, batch.erasing(unpack(bytes(in)), batch.counters, batch.bytes));
    }
  }

  private static void said(MsgpackReader in, Memory memory) throws ProtocolException {
    boolean heard = in.bool("heard");
    Memory.Said said =
        new Memory.Said(
            in.text("parent", 1, 64),
            new Knowledge(
                integer(in), integer(in), bytes(in), integer(in), in.text("format", 1, 64), (int) integer(in),
                (int) integer(in), bytes(in)));
    if (heard) {
      memory.heard = said;
    } else {
      memory.told = said;
    }
  }

  private static long integer(MsgpackReader in) throws ProtocolException {
    return in.integer("number", Long.MIN_VALUE, Long.MAX_VALUE);
  }

  private static byte[] bytes(MsgpackReader in) throws ProtocolException {
    return in.bytes("bytes", 0, MOST);
  }

  private static float[] floats(byte[] raw) {
    float[] values = new float[raw.length / 4];
    ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values);
    return values;
  }

  private static byte[] pack(long[] values) {
    ByteBuffer raw = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    raw.asLongBuffer().put(values);
    return raw.array();
  }

  private static long[] unpack(byte[] raw) {
    long[] values = new long[raw.length / 8];
    ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asLongBuffer().get(values);
    return values;
  }
}
