package fedagg.bridge.kernels;

import java.nio.ByteBuffer;

/** Logits [rows, classes] where they lie: a view, nothing is copied. The buffers' positions are where they begin. */
public final class Logits {
  final ByteBuffer values;
  final LogitType type;
  final ByteBuffer scale;

  private Logits(ByteBuffer values, LogitType type, ByteBuffer scale) {
    this.values = values;
    this.type = type;
    this.scale = scale;
  }

  /** Binary32 values. */
  public static Logits f32(ByteBuffer values) {
    return new Logits(values, LogitType.F32, null);
  }

  /** Binary16 values. */
  public static Logits f16(ByteBuffer values) {
    return new Logits(values, LogitType.F16, null);
  }

  /** Signed bytes, and a binary32 scale for each row. */
  public static Logits int8(ByteBuffer values, ByteBuffer scale) {
    return new Logits(values, LogitType.INT8, scale);
  }
}
