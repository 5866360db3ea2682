package fedagg.bridge.kernels;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Direct buffers in the machine's byte order, and the checks that only Java can make of them. */
public final class Buffers {
  private Buffers() {}

  /** A direct buffer of {@code count} binary32 numbers, all 0. */
  public static ByteBuffer floats(int count) {
    return bytes(Math.multiplyExact(count, 4));
  }

  /** A direct buffer of {@code count} 8-byte integers, all 0. */
  public static ByteBuffer longs(int count) {
    return bytes(Math.multiplyExact(count, 8));
  }

  /** A direct buffer of {@code count} bytes, all 0, in the machine's byte order. */
  public static ByteBuffer bytes(int count) {
    return ByteBuffer.allocateDirect(count).order(ByteOrder.nativeOrder());
  }

  /** A copy of {@code values}. */
  public static ByteBuffer of(float[] values) {
    ByteBuffer buffer = floats(values.length);
    buffer.asFloatBuffer().put(values);
    return buffer;
  }

  /** A copy of {@code values}. */
  public static ByteBuffer of(long[] values) {
    ByteBuffer buffer = longs(values.length);
    buffer.asLongBuffer().put(values);
    return buffer;
  }

  /** A copy of {@code values}. */
  public static ByteBuffer of(byte[] values) {
    ByteBuffer buffer = bytes(values.length);
    buffer.duplicate().put(values);
    return buffer;
  }

  /** The next {@code count} numbers from the position on, which stays. */
  public static float[] toFloats(ByteBuffer buffer, int count) {
    float[] values = new float[count];
    buffer.duplicate().order(buffer.order()).asFloatBuffer().get(values);
    return values;
  }

  /** The next {@code count} bytes from the position on, which stays. */
  public static byte[] toBytes(ByteBuffer buffer, int count) {
    byte[] values = new byte[count];
    buffer.duplicate().get(values);
    return values;
  }

  static int in(ByteBuffer buffer, long count, int size, String name) {
    if (buffer == null) {
      throw new KernelException(name + ": got null, expected a direct ByteBuffer");
    }
    if (!buffer.isDirect()) {
      throw new KernelException(name + ": got a buffer that is not direct; take ByteBuffer.allocateDirect");
    }
    if (size > 1 && buffer.order() != ByteOrder.nativeOrder()) {
      throw new KernelException(
          name + ": got byte order " + buffer.order() + ", expected " + ByteOrder.nativeOrder()
              + "; a new buffer, a slice and a duplicate begin as BIG_ENDIAN: call order(ByteOrder.nativeOrder())");
    }
    if (buffer.remaining() < count * size) {
      throw new KernelException(
          name + ": got " + buffer.remaining() + " bytes between position and limit, expected " + count * size);
    }
    return buffer.position();
  }

  static int optional(ByteBuffer buffer, long count, int size, String name) {
    return buffer == null ? 0 : in(buffer, count, size, name);
  }

  static int out(ByteBuffer buffer, long count, int size, String name) {
    int at = in(buffer, count, size, name);
    if (buffer.isReadOnly()) {
      throw new KernelException(name + ": got a read-only buffer, expected one that can be written");
    }
    return at;
  }

  /** rows * classes; neither may be below 0. */
  static long area(int rows, int classes) {
    if (rows < 0 || classes < 0) {
      throw new KernelException("got " + rows + " rows of " + classes + ", expected 0 or more");
    }
    return (long) rows * classes;
  }
}
