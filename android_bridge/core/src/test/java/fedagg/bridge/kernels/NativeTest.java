package fedagg.bridge.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;

/** The library's own checks, for a caller that goes past those of Java. */
class NativeTest {
  private static final ByteBuffer SMALL = Buffers.floats(4);

  @BeforeAll
  static void load() {
    Native.load();
  }

  private static void refused(String words, Runnable call) {
    KernelException error = assertThrows(KernelException.class, call::run);
    assertTrue(error.getMessage().contains(words), error.getMessage());
  }

  @Test
  void nullHeapShortNegativeAndUnalignedAreRefused() {
    refused("null", () -> Native.toF16(1, null, 0, SMALL, 0));
    refused("not direct", () -> Native.toF16(1, ByteBuffer.allocate(4), 0, SMALL, 0));
    refused("got 4 bytes, expected 8", () -> Native.toF16(2, SMALL, 12, Buffers.floats(4), 0));
    refused("got 0 bytes", () -> Native.toF16(1, SMALL, 1000, Buffers.floats(4), 0));
    refused("-1", () -> Native.toF16(1, SMALL, -1, Buffers.floats(4), 0));
    refused("-1", () -> Native.toF16(-1, SMALL, 0, Buffers.floats(4), 0));
    refused("multiple of 4", () -> Native.toF16(1, SMALL, 1, Buffers.floats(4), 0));
    refused("more than a buffer", () -> Native.quantise(1 << 30, 1 << 30, SMALL, 0, SMALL, 0, SMALL, 0));
  }

  @Test
  void aHandleThatWasNeverOpenedIsRefused() {
    refused(
        "handle",
        () -> Native.confidence(0, 1, 2, SMALL, 0, 0, null, 0, Buffers.floats(1), 0));
    Native.close(0);
  }

  @Test
  void arraysThatDoNotFitAreRefused() {
    long handle = Native.open(1);
    try {
      ByteBuffer[] one = {SMALL};
      refused("null", () -> aggregate(handle, null, one, new int[3], 0));
      refused("lengths", () -> aggregate(handle, one, new ByteBuffer[0], new int[3], 0));
      refused("lengths", () -> aggregate(handle, one, one, new int[2], 0));
      refused("type 9", () -> aggregate(handle, one, one, new int[] {0, 9, 0}, 0));
      refused("method", () -> aggregate(handle, one, one, new int[3], 5));
      refused(
          "array of 3",
          () ->
              Native.distill(
                  handle, 1, 2, SMALL, 0, null, 0, 0, null, 0, Buffers.longs(1), 0, null, 0, null, 0, Buffers.floats(2),
                  0, 1, 0, 1, 1, false, new double[2]));
    } finally {
      Native.close(handle);
    }
  }

  private static void aggregate(long handle, ByteBuffer[] teachers, ByteBuffer[] scales, int[] places, int method) {
    Native.aggregate(
        handle, 1, 2, teachers, scales, places, null, 0, null, 0, null, 0, method, 0, Buffers.floats(2), 0);
  }

  @Test
  @EnabledIfSystemProperty(named = "fedagg.isa", matches = ".+")
  void theLibraryHasTheInstructionSetThatTheRunIsFor() {
    assertEquals(System.getProperty("fedagg.isa"), Native.activeIsa());
  }

  @Test
  void wrongNamesAndNumbersAreRefused() {
    refused("threads", () -> Native.open(0));
    refused("null", () -> Native.setActiveIsa(null));
    refused("nonsense", () -> Native.setActiveIsa("nonsense"));
    String[] isas = Native.availableIsas();
    assertEquals("scalar", isas[isas.length - 1]);
  }
}
