package fedagg.bridge.agent;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** A trainer's state as bytes: its flat weights, then the optimizer's velocity; binary32, little-endian. */
final class FlatState {
  private FlatState() {}

  /** All of both direct buffers. */
  static byte[] save(ByteBuffer weights, ByteBuffer velocity) {
    ByteBuffer out = ByteBuffer.allocate(weights.capacity() + velocity.capacity()).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < weights.capacity(); i += 4) {
      out.putFloat(weights.getFloat(i));
    }
    for (int i = 0; i < velocity.capacity(); i += 4) {
      out.putFloat(velocity.getFloat(i));
    }
    return out.array();
  }

  /** Fills both from what {@link #save} gave; throws for bytes of another size, and then changes nothing. */
  static void load(byte[] state, ByteBuffer weights, ByteBuffer velocity) throws TrainerException {
    int expected = weights.capacity() + velocity.capacity();
    if (state.length != expected) {
      throw new TrainerException(
          "state: got " + state.length + " bytes, expected " + expected
              + ": it is another model's; open the folder with the model that wrote it, or take a new folder");
    }
    ByteBuffer in = ByteBuffer.wrap(state).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < weights.capacity(); i += 4) {
      weights.putFloat(i, in.getFloat());
    }
    for (int i = 0; i < velocity.capacity(); i += 4) {
      velocity.putFloat(i, in.getFloat());
    }
  }
}
