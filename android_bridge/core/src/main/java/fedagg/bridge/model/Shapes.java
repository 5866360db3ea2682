package fedagg.bridge.model;

/** Sizes of arrays from a file, which may be anything. */
final class Shapes {
  /** Numbers that an array of a file may have. */
  static final int LARGEST = 1 << 26;

  private Shapes() {}

  /** Their product; above {@link #LARGEST} some number above it. */
  static long numbers(int[] shape) {
    long size = 1;
    for (int side : shape) {
      size = Math.min(size, LARGEST + 1L) * side;
    }
    return size;
  }
}
