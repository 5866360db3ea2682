package fedagg.bridge.wire;

import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Set;

/**
 * One node's rows as they travel (docs/protocol.md, "Arrays"): embeddings ("FAE1") or bare sample ids ("FAS1").
 * A device writes and is sent its own samples only, so there is one origin at most.
 */
public final class Rows {
  private static final int EMBEDDINGS = 0x31454146; // "FAE1" in little endian
  private static final int SAMPLES = 0x31534146; // "FAS1"

  /** Ascending. */
  public final long[] counters;
  /** [rows]; -1: held back. Null for bare ids. */
  public final int[] labels;
  /** [rows, codeBytes]. Null for bare ids. */
  public final byte[] codes;

  public final int codeBytes;

  private Rows(long[] counters, int[] labels, byte[] codes, int codeBytes) {
    this.counters = counters;
    this.labels = labels;
    this.codes = codes;
    this.codeBytes = codeBytes;
  }

  /** Embeddings of samples with ascending counters; labels from -1 to 2^31 - 1. */
  public static Rows embeddings(long[] counters, int[] labels, byte[] codes, int codeBytes) {
    if (labels.length != counters.length || codes.length != (long) counters.length * codeBytes) {
      throw new IllegalArgumentException(
          "embeddings: got " + counters.length + " counters, " + labels.length + " labels and " + codes.length
              + " bytes of codes, expected " + codeBytes + " bytes each");
    }
    return new Rows(counters, labels, codes, codeBytes);
  }

  /** Sample ids alone. */
  public static Rows samples(long[] counters) {
    return new Rows(counters, null, null, 0);
  }

  /** These rows but for those of {@code gone}. */
  public Rows without(Set<Long> gone) {
    int left = 0;
    for (long counter : counters) {
      left += gone.contains(counter) ? 0 : 1;
    }
    long[] kept = new long[left];
    int[] keptLabels = labels == null ? null : new int[left];
    byte[] keptCodes = codes == null ? null : new byte[left * codeBytes];
    int at = 0;
    for (int i = 0; i < counters.length; i++) {
      if (!gone.contains(counters[i])) {
        kept[at] = counters[i];
        if (codes != null) {
          keptLabels[at] = labels[i];
          System.arraycopy(codes, i * codeBytes, keptCodes, at * codeBytes, codeBytes);
        }
        at++;
      }
    }
    return new Rows(kept, keptLabels, keptCodes, codeBytes);
  }

  /** The rows from {@code from} to before {@code to}. */
  public Rows part(int from, int to) {
    return new Rows(
        Arrays.copyOfRange(counters, from, to), labels == null ? null : Arrays.copyOfRange(labels, from, to),
        codes == null ? null : Arrays.copyOfRange(codes, from * codeBytes, to * codeBytes), codeBytes);
  }

  /** The bytes, labels as narrow as they allow. */
  public byte[] dump(String origin) {
    int count = counters.length;
    byte[] name = origin.getBytes(StandardCharsets.US_ASCII);
    int origins = count == 0 ? 0 : 1;
    int head = 6 + origins * (5 + name.length);
    int width = labels == null ? 0 : width();
    int size = head + 8 * count + (labels == null ? 0 : 5 + count * width + codes.length);
    ByteBuffer out = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    out.putInt(labels == null ? SAMPLES : EMBEDDINGS).putShort((short) origins);
    if (origins == 1) {
      out.put((byte) name.length).put(name).putInt(count);
    }
    if (labels != null) {
      out.putInt(codeBytes).put((byte) width);
    }
    for (long counter : counters) {
      out.putLong(counter);
    }
    if (labels != null) {
      for (int label : labels) {
        for (int i = 0; i < width; i++) {
          out.put((byte) (label >> 8 * i));
        }
      }
      out.put(codes);
    }
    return out.array();
  }

  private int width() {
    int top = -1;
    for (int label : labels) {
      top = Math.max(top, label);
    }
    return top < 0 ? 0 : top < 1 << 7 ? 1 : top < 1 << 15 ? 2 : 4;
  }

  /** The embeddings of {@code origin} in {@code data}. */
  public static Rows loadEmbeddings(byte[] data, String origin, long mostRows) throws ProtocolException {
    return load(data, origin, mostRows, EMBEDDINGS, "embeddings");
  }

  /** The sample ids of {@code origin} in {@code data}. */
  public static Rows loadSamples(byte[] data, String origin, long mostRows) throws ProtocolException {
    return load(data, origin, mostRows, SAMPLES, "samples");
  }

  private static Rows load(byte[] data, String origin, long mostRows, int magic, String what) throws ProtocolException {
    ByteBuffer in = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN);
    try {
      if (in.getInt() != magic) {
        throw new ProtocolException(what + ": got other bytes in front, expected those of " + what);
      }
      int origins = in.getShort() & 0xffff;
      long count = 0;
      if (origins > 1) {
        throw new ProtocolException(what + ": got samples of " + origins + " nodes, expected those of " + origin);
      }
      if (origins == 1) {
        byte[] name = new byte[in.get() & 0xff];
        in.get(name);
        count = in.getInt() & 0xffffffffL;
        if (!origin.equals(new String(name, StandardCharsets.US_ASCII))) {
          throw new ProtocolException(what + ": got samples of another node, expected those of " + origin);
        }
      }
      if (count > mostRows) {
        throw new ProtocolException(what + ": got " + count + " rows, expected at most " + mostRows);
      }
      boolean bare = magic == SAMPLES;
      long codeBytes = bare ? 0 : in.getInt() & 0xffffffffL;
      int width = bare ? 0 : in.get();
      if (width != 0 && width != 1 && width != 2 && width != 4) {
        throw new ProtocolException(what + ": got labels of " + width + " bytes, expected 0, 1, 2 or 4");
      }
      // count and codeBytes are below 2^32: their product fits, its sum with the rest might not
      if (codeBytes > Integer.MAX_VALUE || in.remaining() != count * (8 + width + codeBytes)) {
        throw new ProtocolException(
            what + ": got " + in.remaining() + " bytes of rows, expected " + count + " of " + (8 + width + codeBytes));
      }
      return rows(in, (int) count, width, (int) codeBytes, bare, what);
    } catch (BufferUnderflowException error) {
      throw new ProtocolException(what + ": got " + data.length + " bytes, expected more");
    }
  }

  private static Rows rows(ByteBuffer in, int count, int width, int codeBytes, boolean bare, String what)
      throws ProtocolException {
    long[] counters = new long[count];
    for (int i = 0; i < count; i++) {
      counters[i] = in.getLong();
      if (i > 0 && Long.compareUnsigned(counters[i], counters[i - 1]) <= 0) {
        throw new ProtocolException(what + ": got counters that do not rise, expected each once, ascending");
      }
    }
    if (bare) {
      return samples(counters);
    }
    int[] labels = new int[count];
    for (int i = 0; i < count; i++) {
      labels[i] = width == 0 ? -1 : width == 1 ? in.get() : width == 2 ? in.getShort() : in.getInt();
      if (labels[i] < -1) {
        throw new ProtocolException(what + ": got label " + labels[i] + ", expected -1 (held back) or more");
      }
    }
    byte[] codes = new byte[count * codeBytes];
    in.get(codes);
    return new Rows(counters, labels, codes, codeBytes);
  }
}
