package fedagg.bridge.kernels;

import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReentrantReadWriteLock;

/**
 * The C++ kernels over direct {@link ByteBuffer}s, which are read and written where they lie.
 *
 * <p>An array begins at its buffer's position and ends at or before its limit; positions are not moved. Numbers are in
 * the machine's byte order ({@link Buffers} makes such buffers), N rows of C classes in C order. Any number of threads
 * may call at once; {@link #close} waits for the calls under way. Every failure is a {@link KernelException}, and outputs
 * are then as they were unless a method says otherwise.
 */
public final class DistillationCore implements AutoCloseable {
  private final ReentrantReadWriteLock lock = new ReentrantReadWriteLock();
  private long handle; // 0: closed

  private DistillationCore(long handle) {
    this.handle = handle;
  }

  /** A core that runs each call on one thread. */
  public static DistillationCore open() {
    return open(1);
  }

  /** A core whose calls use up to {@code threads} threads where a batch is large enough for them. */
  public static DistillationCore open(int threads) {
    Native.load();
    return new DistillationCore(Native.open(threads));
  }

  /** Frees the native part once no call is under way. Again it does nothing. */
  @Override
  public void close() {
    lock.writeLock().lock();
    try {
      if (handle != 0) {
        Native.close(handle);
        handle = 0;
      }
    } finally {
      lock.writeLock().unlock();
    }
  }

  /** Instruction sets that this library has and this machine runs, best first. */
  public static String[] availableIsas() {
    Native.load();
    return Native.availableIsas();
  }

  /** The instruction set in use. */
  public static String activeIsa() {
    Native.load();
    return Native.activeIsa();
  }

  /** Use another one of {@link #availableIsas} from now on, in every thread: for tests. */
  public static void setActiveIsa(String name) {
    Native.load();
    Native.setActiveIsa(name);
  }

  /** The distillation loss of a batch; its gradient goes into the batch's {@code gradient}. */
  public DistillLoss distill(DistillBatch batch, DistillOptions options) {
    if (batch == null || options == null) {
      throw new KernelException("distill: got null, expected a batch and options");
    }
    long area = Buffers.area(batch.rows, batch.classes);
    int studentAt = Buffers.in(batch.student, area, 4, "student");
    Placed teacher = Placed.of(batch.teacher, batch.rows, area, "teacher");
    int labelsAt = Buffers.optional(batch.labels, batch.rows, 8, "labels");
    int maskAt = Buffers.optional(batch.mask, batch.rows, 1, "mask");
    int weightsAt = Buffers.optional(batch.rowWeights, batch.rows, 4, "row weights");
    int gradientAt = Buffers.out(batch.gradient, area, 4, "gradient");
    double[] loss = new double[3];
    Lock held = enter();
    try {
      Native.distill(
          handle, batch.rows, batch.classes, batch.student, studentAt, teacher.values, teacher.at, teacher.type,
          teacher.scale, teacher.scaleAt, batch.labels, labelsAt, batch.mask, maskAt, batch.rowWeights, weightsAt,
          batch.gradient, gradientAt, options.ceWeight, options.klWeight, options.temperature,
          options.teacherTemperature, options.reverse, loss);
    } finally {
      held.unlock();
    }
    return new DistillLoss(loss[0], loss[1], loss[2]);
  }

  /**
   * The logits of K teachers as one, binary32 [rows, classes] into {@code out}, which is unspecified after a failure.
   *
   * @param weights binary32 [K] or null; {@code sampleWeights} binary32 [K, rows] or null; {@code mask} bytes [K, rows]
   *     or null, 0 leaves teacher k out of a row. Their product is what a teacher counts for a row.
   * @param trim the share of teachers that TRIMMED_MEAN leaves out at either end, below 0.5
   */
  public void aggregate(
      int rows, int classes, List<Logits> teachers, ByteBuffer weights, ByteBuffer sampleWeights, ByteBuffer mask,
      Aggregation method, double trim, ByteBuffer out) {
    if (teachers == null || method == null) {
      throw new KernelException("aggregate: got null, expected teachers and a method");
    }
    int count = teachers.size();
    long area = Buffers.area(rows, classes);
    ByteBuffer[] values = new ByteBuffer[count];
    ByteBuffer[] scales = new ByteBuffer[count];
    int[] places = new int[3 * count];
    for (int k = 0; k < count; k++) {
      if (teachers.get(k) == null) {
        throw new KernelException("teachers: got null as number " + k + ", expected logits");
      }
      Placed teacher = Placed.of(teachers.get(k), rows, area, "teacher " + k);
      values[k] = teacher.values;
      scales[k] = teacher.scale;
      places[3 * k] = teacher.at;
      places[3 * k + 1] = teacher.type;
      places[3 * k + 2] = teacher.scaleAt;
    }
    int weightsAt = Buffers.optional(weights, count, 4, "weights");
    int sampleWeightsAt = Buffers.optional(sampleWeights, (long) count * rows, 4, "sample weights");
    int maskAt = Buffers.optional(mask, (long) count * rows, 1, "mask");
    int outAt = Buffers.out(out, area, 4, "out");
    Lock held = enter();
    try {
      Native.aggregate(
          handle, rows, classes, values, scales, places, weights, weightsAt, sampleWeights, sampleWeightsAt, mask,
          maskAt, method.ordinal(), trim, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /** exp(-entropy(softmax(row))) for every row, from 1 / classes to 1, binary32 [rows] into {@code out}. */
  public void confidence(int rows, int classes, Logits logits, ByteBuffer out) {
    if (logits == null) {
      throw new KernelException("confidence: got null, expected logits");
    }
    Placed z = Placed.of(logits, rows, Buffers.area(rows, classes), "logits");
    int outAt = Buffers.out(out, rows, 4, "out");
    Lock held = enter();
    try {
      Native.confidence(handle, rows, classes, z.values, z.at, z.type, z.scale, z.scaleAt, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /** binary32 to binary16, {@code count} numbers. */
  public void toF16(int count, ByteBuffer x, ByteBuffer out) {
    long n = Buffers.area(count, 1);
    int at = Buffers.in(x, n, 4, "x");
    int outAt = Buffers.out(out, n, 2, "out");
    Lock held = enter();
    try {
      Native.toF16(count, x, at, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /** binary16 to binary32, {@code count} numbers. */
  public void fromF16(int count, ByteBuffer x, ByteBuffer out) {
    long n = Buffers.area(count, 1);
    int at = Buffers.in(x, n, 2, "x");
    int outAt = Buffers.out(out, n, 4, "out");
    Lock held = enter();
    try {
      Native.fromF16(count, x, at, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /** Logits as signed bytes [rows, classes] with a binary32 scale a row; a row that is not finite decodes to NaN. */
  public void quantise(int rows, int classes, ByteBuffer x, ByteBuffer out, ByteBuffer scale) {
    long area = Buffers.area(rows, classes);
    int at = Buffers.in(x, area, 4, "x");
    int outAt = Buffers.out(out, area, 1, "out");
    int scaleAt = Buffers.out(scale, rows, 4, "row scales");
    Lock held = enter();
    try {
      Native.quantise(rows, classes, x, at, out, outAt, scale, scaleAt);
    } finally {
      held.unlock();
    }
  }

  /** The inverse of {@link #quantise}. */
  public void dequantise(int rows, int classes, ByteBuffer x, ByteBuffer scale, ByteBuffer out) {
    long area = Buffers.area(rows, classes);
    int at = Buffers.in(x, area, 1, "x");
    int scaleAt = Buffers.in(scale, rows, 4, "row scales");
    int outAt = Buffers.out(out, area, 4, "out");
    Lock held = enter();
    try {
      Native.dequantise(rows, classes, x, at, scale, scaleAt, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /**
   * One byte a value, value ~ low + code * step with low and step for each of {@code channels}; values outside are
   * clamped to the largest code, 255 or what {@code bits} (bytes [channels], or null) has room for.
   */
  public void encodeAffine(
      int rows, int channels, ByteBuffer x, ByteBuffer low, ByteBuffer step, ByteBuffer bits, ByteBuffer out) {
    long area = Buffers.area(rows, channels);
    int at = Buffers.in(x, area, 4, "x");
    int lowAt = Buffers.in(low, channels, 4, "low");
    int stepAt = Buffers.in(step, channels, 4, "step");
    int bitsAt = Buffers.optional(bits, channels, 1, "bits");
    int outAt = Buffers.out(out, area, 1, "out");
    Lock held = enter();
    try {
      Native.encodeAffine(rows, channels, x, at, low, lowAt, step, stepAt, bits, bitsAt, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /** The inverse of {@link #encodeAffine}. */
  public void decodeAffine(int rows, int channels, ByteBuffer x, ByteBuffer low, ByteBuffer step, ByteBuffer out) {
    long area = Buffers.area(rows, channels);
    int at = Buffers.in(x, area, 1, "x");
    int lowAt = Buffers.in(low, channels, 4, "low");
    int stepAt = Buffers.in(step, channels, 4, "step");
    int outAt = Buffers.out(out, area, 4, "out");
    Lock held = enter();
    try {
      Native.decodeAffine(rows, channels, x, at, low, lowAt, step, stepAt, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /** Bytes of a row whose codes have {@code bits} bits each (bytes [channels], 0 to 8). */
  public int packedBytes(int channels, ByteBuffer bits) {
    int bitsAt = Buffers.in(bits, Buffers.area(channels, 1), 1, "bits");
    Lock held = enter();
    try {
      return Native.packedBytes(channels, bits, bitsAt);
    } finally {
      held.unlock();
    }
  }

  /** Codes [rows, channels], a byte each, into {@link #packedBytes} bytes a row, from the lowest bit on. */
  public void packBits(int rows, int channels, ByteBuffer codes, ByteBuffer bits, ByteBuffer out) {
    int at = Buffers.in(codes, Buffers.area(rows, channels), 1, "codes");
    int bitsAt = Buffers.in(bits, channels, 1, "bits");
    Lock held = enter();
    try {
      int outAt = Buffers.out(out, (long) rows * Native.packedBytes(channels, bits, bitsAt), 1, "out");
      Native.packBits(rows, channels, codes, at, bits, bitsAt, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /** The inverse of {@link #packBits}. */
  public void unpackBits(int rows, int channels, ByteBuffer packed, ByteBuffer bits, ByteBuffer out) {
    int outAt = Buffers.out(out, Buffers.area(rows, channels), 1, "out");
    int bitsAt = Buffers.in(bits, channels, 1, "bits");
    Lock held = enter();
    try {
      int at = Buffers.in(packed, (long) rows * Native.packedBytes(channels, bits, bitsAt), 1, "packed");
      Native.unpackBits(rows, channels, packed, at, bits, bitsAt, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /**
   * The k largest logits of each row: their classes (2-byte integers [rows, k]), values (binary32 [rows, k]) and, in
   * {@code rest} (binary32 [rows]), the logit that stands for each of the others.
   */
  public void encodeTopK(
      int rows, int classes, int k, ByteBuffer x, ByteBuffer kept, ByteBuffer values, ByteBuffer rest) {
    long area = Buffers.area(rows, k);
    int at = Buffers.in(x, Buffers.area(rows, classes), 4, "x");
    int keptAt = Buffers.out(kept, area, 2, "kept classes");
    int valuesAt = Buffers.out(values, area, 4, "values");
    int restAt = Buffers.out(rest, rows, 4, "rest");
    Lock held = enter();
    try {
      Native.encodeTopK(rows, classes, k, x, at, kept, keptAt, values, valuesAt, rest, restAt);
    } finally {
      held.unlock();
    }
  }

  /** The inverse of {@link #encodeTopK}, as far as there is one. */
  public void decodeTopK(
      int rows, int classes, int k, ByteBuffer kept, ByteBuffer values, ByteBuffer rest, ByteBuffer out) {
    long area = Buffers.area(rows, k);
    int keptAt = Buffers.in(kept, area, 2, "kept classes");
    int valuesAt = Buffers.in(values, area, 4, "values");
    int restAt = Buffers.in(rest, rows, 4, "rest");
    int outAt = Buffers.out(out, Buffers.area(rows, classes), 4, "out");
    Lock held = enter();
    try {
      Native.decodeTopK(rows, classes, k, kept, keptAt, values, valuesAt, rest, restAt, out, outAt);
    } finally {
      held.unlock();
    }
  }

  /**
   * One step of stochastic gradient descent as torch.optim.SGD takes it, in place. {@code velocity} may be null when
   * {@code momentum} is 0.
   */
  public void sgdStep(
      int count, ByteBuffer parameters, ByteBuffer gradient, ByteBuffer velocity, float learningRate, float momentum,
      float weightDecay, boolean nesterov) {
    long n = Buffers.area(count, 1);
    int at = Buffers.out(parameters, n, 4, "parameters");
    int gradientAt = Buffers.in(gradient, n, 4, "gradient");
    int velocityAt = velocity == null ? 0 : Buffers.out(velocity, n, 4, "velocity");
    Lock held = enter();
    try {
      Native.sgdStep(
          count, parameters, at, gradient, gradientAt, velocity, velocityAt, learningRate, momentum, weightDecay,
          nesterov);
    } finally {
      held.unlock();
    }
  }

  private Lock enter() {
    Lock held = lock.readLock();
    held.lock();
    if (handle == 0) {
      held.unlock();
      throw new KernelException("core: it is closed; open another one");
    }
    return held;
  }

  /** Logits with where they begin, as the native methods take them. */
  private static final class Placed {
    private static final Placed NONE = new Placed(null, 0, 0, null, 0);

    final ByteBuffer values;
    final int at;
    final int type;
    final ByteBuffer scale;
    final int scaleAt;

    private Placed(ByteBuffer values, int at, int type, ByteBuffer scale, int scaleAt) {
      this.values = values;
      this.at = at;
      this.type = type;
      this.scale = scale;
      this.scaleAt = scaleAt;
    }

    static Placed of(Logits logits, int rows, long area, String name) {
      if (logits == null) {
        return NONE;
      }
      int at = Buffers.in(logits.values, area, logits.type.bytes, name);
      boolean scaled = logits.type == LogitType.INT8;
      int scaleAt = scaled ? Buffers.in(logits.scale, rows, 4, "row scales of " + name) : 0;
      return new Placed(logits.values, at, logits.type.ordinal(), logits.scale, scaleAt);
    }
  }
}
