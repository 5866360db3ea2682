package fedagg.bridge.kernels;

/** How logits are stored. The order is the native library's. */
public enum LogitType {
  /** 4 bytes, IEEE 754 binary32. */
  F32(4),
  /** 2 bytes, IEEE 754 binary16. */
  F16(2),
  /** One signed byte a class and one binary32 scale a row: logit = byte * scale. */
  INT8(1);

  /** Bytes of one value. */
  public final int bytes;

  LogitType(int bytes) {
    this.bytes = bytes;
  }
}
