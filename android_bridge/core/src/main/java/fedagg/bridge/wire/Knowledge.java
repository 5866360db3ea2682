package fedagg.bridge.wire;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** The logits that one end of a link gave the other, as they travelled. */
public final class Knowledge {
  public final long version;
  /** The receiver's version that it was based on, -1 for none. */
  public final long basis;
  /** Of the sample set that its rows follow. */
  public final byte[] digest;

  public final long viewSeed;
  /** f32, f16 or int8. */
  public final String format;

  public final int rows;
  public final int classes;
  public final byte[] data;

  public Knowledge(
      long version, long basis, byte[] digest, long viewSeed, String format, int rows, int classes, byte[] data) {
    this.version = version;
    this.basis = basis;
    this.digest = digest;
    this.viewSeed = viewSeed;
    this.format = format;
    this.rows = rows;
    this.classes = classes;
    this.data = data;
  }

  /** Knowledge that came: its length and numbers must be what its head says, and finite. */
  static Knowledge of(Messages.WireKnowledge given, byte[] data) throws ProtocolException {
    long rows = given.rows;
    long classes = given.classes;
    if (rows >= 1L << 31 || classes < 1 || classes >= 1L << 31) {
      throw new ProtocolException("logits: got " + rows + " rows of " + classes + " classes, expected at least 0 of 1");
    }
    long cells = rows * classes; // below 2^62
    long expected;
    switch (given.format) {
      case "f32":
        expected = cells <= data.length ? 4 * cells : -1;
        break;
      case "f16":
        expected = cells <= data.length ? 2 * cells : -1;
        break;
      case "int8":
        expected = cells <= data.length ? 4 * rows + cells : -1;
        break;
      default:
        throw new ProtocolException("logits: got format " + given.format + ", expected f32, f16 or int8");
    }
    if (data.length != expected) {
      throw new ProtocolException(
          "logits: got " + data.length + " bytes, expected " + rows + " rows of " + classes + " in " + given.format);
    }
    Knowledge found =
        new Knowledge(
            given.version, given.basis, given.digest, given.viewSeed, given.format, (int) rows, (int) classes, data);
    found.checkFinite();
    return found;
  }

  private void checkFinite() throws ProtocolException {
    ByteBuffer in = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN);
    boolean fine = true;
    if (format.equals("f16")) {
      for (int i = 0; i < data.length; i += 2) {
        fine &= (in.getShort(i) & 0x7c00) != 0x7c00;
      }
    } else {
      boolean scales = format.equals("int8");
      int end = scales ? 4 * rows : data.length;
      for (int i = 0; i < end; i += 4) {
        float value = in.getFloat(i);
        fine &= !Float.isNaN(value) && !Float.isInfinite(value) && (!scales || value >= 0);
      }
    }
    if (!fine) {
      throw new ProtocolException("knowledge " + version + ": got logits that are not finite, or scales below 0");
    }
  }
}
