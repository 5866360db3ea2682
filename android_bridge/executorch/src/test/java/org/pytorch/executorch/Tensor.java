package org.pytorch.executorch;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Arrays;

/**
 * Not ExecuTorch's: see Module of this folder. As the real one it takes direct buffers in the machine's order alone, of as
 * many numbers as the shape says; one of a type that Java has no data for gives none, and is not taken by a method.
 */
public final class Tensor {
  private final DType type;
  private final long[] shape;
  private final FloatBuffer floats;
  private final long[] longs;
  private final byte[] bytes;

  private Tensor(DType type, long[] shape, int count, FloatBuffer floats, long[] longs, byte[] bytes) {
    this.type = type;
    this.shape = shape.clone();
    this.floats = floats;
    this.longs = longs;
    this.bytes = bytes;
    if (numel() != count) {
      throw new IllegalArgumentException("got " + count + " numbers for " + Arrays.toString(shape));
    }
  }

  public static Tensor fromBlob(FloatBuffer data, long[] shape) {
    if (!data.isDirect() || data.order() != ByteOrder.nativeOrder()) {
      throw new IllegalArgumentException("got a buffer that is not direct, or in another byte order");
    }
    return new Tensor(DType.FLOAT, shape, data.capacity(), data, null, null);
  }

  public static Tensor fromBlob(float[] data, long[] shape) {
    FloatBuffer copy = ByteBuffer.allocateDirect(4 * data.length).order(ByteOrder.nativeOrder()).asFloatBuffer();
    copy.put(data);
    return fromBlob(copy, shape);
  }

  public static Tensor fromBlob(long[] data, long[] shape) {
    return new Tensor(DType.INT64, shape, data.length, null, data.clone(), null);
  }

  public static Tensor fromBlobUnsigned(byte[] data, long[] shape) {
    return new Tensor(DType.UINT8, shape, data.length, null, null, data.clone());
  }

  /** What the runtime gives of a type that Java has not. */
  public static Tensor unsupported(long[] shape) {
    long count = 1;
    for (long side : shape) {
      count *= side;
    }
    return new Tensor(DType.BOOL, shape, (int) count, null, null, null);
  }

  public DType dtype() {
    return type;
  }

  public long[] shape() {
    return shape.clone();
  }

  public long numel() {
    long count = 1;
    for (long side : shape) {
      count *= side;
    }
    return count;
  }

  public float[] getDataAsFloatArray() {
    only(DType.FLOAT);
    floats.rewind();
    float[] found = new float[floats.remaining()];
    floats.get(found);
    return found;
  }

  public long[] getDataAsLongArray() {
    only(DType.INT64);
    return longs.clone();
  }

  public byte[] getDataAsUnsignedByteArray() {
    only(DType.UINT8);
    return bytes.clone();
  }

  private void only(DType wanted) {
    if (type != wanted) {
      throw new IllegalStateException("a tensor of type " + type + " has no data of " + wanted);
    }
  }
}
