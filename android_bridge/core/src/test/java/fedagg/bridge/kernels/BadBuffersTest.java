package fedagg.bridge.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** Every method with every buffer argument wrong in every way: an exception, and the outputs as they were. */
class BadBuffersTest {
  private static final int N = 3;
  private static final int C = 4;

  private interface Call {
    void run(DistillationCore core, ByteBuffer[] arguments);
  }

  /** A method: its call, then for each argument its element's bytes, count, and whether it is written or may be null. */
  private static final class Subject {
    final String name;
    final Call call;
    final int[] size;
    final int[] count;
    final String kinds; // of each argument: i in, o out, ? in, may be null

    Subject(String name, String kinds, int[] size, int[] count, Call call) {
      this.name = name;
      this.kinds = kinds;
      this.size = size;
      this.count = count;
      this.call = call;
    }

    ByteBuffer[] good() {
      ByteBuffer[] made = new ByteBuffer[size.length];
      byte[] filled;
      for (int i = 0; i < made.length; i++) {
        made[i] = Buffers.bytes(size[i] * count[i]);
        if (size[i] == 4) {
          for (int k = 0; k < count[i]; k++) {
            made[i].putFloat(4 * k, 1f); // a step of 1, a scale of 1
          }
        } else if (size[i] == 1 && kinds.charAt(i) == '?') {
          java.util.Arrays.fill(filled = new byte[count[i]], (byte) 1); // a mask that leaves all rows in
          made[i].duplicate().put(filled);
        }
      }
      return made;
    }
  }

  private static int[] of(int... values) {
    return values;
  }

  private static List<Subject> subjects() {
    int a = N * C;
    List<Subject> all = new ArrayList<>();
    all.add(
        new Subject(
            "distill", "iii???o", of(4, 1, 4, 8, 1, 4, 4), of(a, a, N, N, N, N, a),
            (core, b) ->
                core.distill(
                    new DistillBatch(N, C).student(b[0]).teacher(Logits.int8(b[1], b[2])).labels(b[3]).mask(b[4])
                        .rowWeights(b[5]).gradient(b[6]),
                    DistillOptions.of(b[3] == null ? 0 : 1, 1, 2, 2))));
    all.add(
        new Subject(
            "aggregate", "ii???o", of(1, 4, 4, 4, 1, 4), of(a, N, 1, N, N, a),
            (core, b) ->
                core.aggregate(
                    N, C, Collections.singletonList(Logits.int8(b[0], b[1])), b[2], b[3], b[4], Aggregation.MEAN_LOGITS,
                    0, b[5])));
    all.add(
        new Subject(
            "confidence", "io", of(4, 4), of(a, N), (core, b) -> core.confidence(N, C, Logits.f32(b[0]), b[1])));
    all.add(new Subject("toF16", "io", of(4, 2), of(a, a), (core, b) -> core.toF16(a, b[0], b[1])));
    all.add(new Subject("fromF16", "io", of(2, 4), of(a, a), (core, b) -> core.fromF16(a, b[0], b[1])));
    all.add(
        new Subject(
            "quantise", "ioo", of(4, 1, 4), of(a, a, N), (core, b) -> core.quantise(N, C, b[0], b[1], b[2])));
    all.add(
        new Subject(
            "dequantise", "iio", of(1, 4, 4), of(a, N, a), (core, b) -> core.dequantise(N, C, b[0], b[1], b[2])));
    all.add(
        new Subject(
            "encodeAffine", "iii?o", of(4, 4, 4, 1, 1), of(a, C, C, C, a),
            (core, b) -> core.encodeAffine(N, C, b[0], b[1], b[2], b[3], b[4])));
    all.add(
        new Subject(
            "decodeAffine", "iiio", of(1, 4, 4, 4), of(a, C, C, a),
            (core, b) -> core.decodeAffine(N, C, b[0], b[1], b[2], b[3])));
    all.add(new Subject("packedBytes", "i", of(1), of(C), (core, b) -> core.packedBytes(C, b[0])));
    all.add(
        new Subject(
            "packBits", "iio", of(1, 1, 1), of(a, C, 0), (core, b) -> core.packBits(N, C, b[0], b[1], b[2])));
    all.add(
        new Subject(
            "unpackBits", "iio", of(1, 1, 1), of(0, C, a), (core, b) -> core.unpackBits(N, C, b[0], b[1], b[2])));
    all.add(
        new Subject(
            "encodeTopK", "iooo", of(4, 2, 4, 4), of(a, 2 * N, 2 * N, N),
            (core, b) -> core.encodeTopK(N, C, 2, b[0], b[1], b[2], b[3])));
    all.add(
        new Subject(
            "decodeTopK", "iiio", of(2, 4, 4, 4), of(2 * N, 2 * N, N, a),
            (core, b) -> core.decodeTopK(N, C, 2, b[0], b[1], b[2], b[3])));
    all.add(
        new Subject(
            "sgdStep", "oio", of(4, 4, 4), of(a, a, a),
            (core, b) -> core.sgdStep(a, b[0], b[1], b[2], 0.1f, 0.9f, 0, false)));
    return all;
  }

  @TestFactory
  List<DynamicTest> everyMethodTakesGoodBuffersAndRefusesBadOnes() {
    List<DynamicTest> tests = new ArrayList<>();
    for (Subject subject : subjects()) {
      tests.add(DynamicTest.dynamicTest(subject.name, () -> check(subject)));
    }
    return tests;
  }

  private static void check(Subject subject) {
    try (DistillationCore core = DistillationCore.open()) {
      subject.call.run(core, subject.good());
      for (int i = 0; i < subject.size.length; i++) {
        int bytes = subject.size[i] * subject.count[i];
        char kind = subject.kinds.charAt(i);
        boolean mayBeNull = kind == '?' || (subject.name.equals("sgdStep") && i == 2);
        if (mayBeNull && !subject.name.equals("sgdStep")) {
          ByteBuffer[] without = subject.good();
          without[i] = null;
          subject.call.run(core, without);
        } else {
          refused(subject, core, i, null, "null");
        }
        refused(subject, core, i, ByteBuffer.allocate(bytes).order(ByteOrder.nativeOrder()), "on the heap");
        if (bytes > 0) {
          refused(subject, core, i, Buffers.bytes(bytes - 1), "short");
          ByteBuffer limited = Buffers.bytes(bytes);
          limited.limit(bytes - 1);
          refused(subject, core, i, limited, "limited");
          ByteBuffer placed = Buffers.bytes(bytes);
          placed.position(1);
          refused(subject, core, i, placed, "from its second byte");
        }
        if (subject.size[i] > 1) {
          refused(subject, core, i, ByteBuffer.allocateDirect(bytes), "big-endian");
          ByteBuffer odd = Buffers.bytes(bytes + 1);
          odd.position(1);
          refused(subject, core, i, odd, "at an odd place");
        }
        if (kind == 'o') {
          refused(
              subject, core, i, Buffers.bytes(bytes).asReadOnlyBuffer().order(ByteOrder.nativeOrder()), "read-only");
        }
      }
      overlapsAreRefused(subject, core);
      core.close();
      KernelException closed =
          assertThrows(KernelException.class, () -> subject.call.run(core, subject.good()), subject.name);
      assertTrue(closed.getMessage().contains("closed"), closed.getMessage());
    }
  }

  private static void refused(Subject subject, DistillationCore core, int i, ByteBuffer bad, String what) {
    ByteBuffer[] arguments = subject.good();
    byte[][] before = new byte[arguments.length][];
    for (int k = 0; k < arguments.length; k++) {
      before[k] = Buffers.toBytes(arguments[k], arguments[k].capacity());
    }
    ByteBuffer[] given = arguments.clone();
    given[i] = bad;
    KernelException error =
        assertThrows(
            KernelException.class,
            () -> subject.call.run(core, given),
            subject.name + ": argument " + i + " " + what + " was taken");
    assertTrue(error.getMessage().contains("expected") || error.getMessage().contains("take "), error.getMessage());
    for (int k = 0; k < arguments.length; k++) {
      if (k != i) {
        assertArrayEquals(before[k], Buffers.toBytes(arguments[k], arguments[k].capacity()), "argument " + k);
      }
    }
  }

  /** An output in an input's memory; the gradient may be the student's, but not lie across it. */
  private static void overlapsAreRefused(Subject subject, DistillationCore core) {
    for (int out = 0; out < subject.size.length; out++) {
      for (int in = 0; in < subject.size.length; in++) {
        int need = Math.max(subject.size[in] * subject.count[in], subject.size[out] * subject.count[out]);
        boolean empty = subject.size[in] * subject.count[in] == 0 || subject.size[out] * subject.count[out] == 0;
        boolean inPlace = subject.name.equals("distill") && in == 0;
        if (in == out || empty || subject.kinds.charAt(out) != 'o' || inPlace) {
          continue;
        }
        ByteBuffer[] arguments = subject.good();
        ByteBuffer shared = Buffers.bytes(need);
        for (int k = 0; k + 4 <= need; k += 4) {
          shared.putFloat(k, 0f);
        }
        arguments[in] = shared;
        arguments[out] = shared.duplicate().order(ByteOrder.nativeOrder());
        int place = in;
        int target = out;
        KernelException error =
            assertThrows(
                KernelException.class,
                () -> subject.call.run(core, arguments),
                subject.name + ": argument " + target + " in the memory of " + place + " was taken");
        assertTrue(error.getMessage().contains("memory"), error.getMessage());
      }
    }
  }

  @Test
  void aGradientAcrossItsStudentIsRefused() {
    ByteBuffer memory = Buffers.floats(2 * N * C);
    ByteBuffer shifted = memory.duplicate().order(ByteOrder.nativeOrder());
    shifted.position(4);
    try (DistillationCore core = DistillationCore.open()) {
      assertThrows(
          KernelException.class,
          () ->
              core.distill(
                  new DistillBatch(N, C).student(memory).labels(Buffers.longs(N)).gradient(shifted),
                  DistillOptions.crossEntropy(1)));
    }
  }

  @Test
  void sizesThatNoBufferHasAreRefused() {
    try (DistillationCore core = DistillationCore.open()) {
      ByteBuffer small = Buffers.floats(4);
      for (int[] shape : new int[][] {{-1, 2}, {2, -1}, {Integer.MAX_VALUE, Integer.MAX_VALUE}, {1 << 16, 1 << 16}}) {
        assertThrows(KernelException.class, () -> core.quantise(shape[0], shape[1], small, small, small));
        assertThrows(
            KernelException.class,
            () -> core.distill(new DistillBatch(shape[0], shape[1]).student(small), DistillOptions.crossEntropy(1)));
      }
      assertThrows(KernelException.class, () -> core.toF16(-1, small, small));
    }
  }

  @Test
  void theCoveredMethodsAreAllThereAre() {
    long methods = 0;
    for (java.lang.reflect.Method method : Native.class.getDeclaredMethods()) {
      if (java.lang.reflect.Modifier.isNative(method.getModifiers())) {
        methods++;
      }
    }
    assertEquals(subjects().size() + 5, methods); // open, close and the three about instruction sets have no buffers
  }
}
