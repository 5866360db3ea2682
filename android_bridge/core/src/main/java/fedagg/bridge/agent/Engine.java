package fedagg.bridge.agent;

import java.nio.ByteBuffer;

/**
 * A model as two functions of flat weights: logits, and the gradient from d loss / d logits. What {@link KernelTrainer}
 * needs of a runtime that leaves the loss to the C++ kernel. Buffers are direct and begin at 0.
 */
public interface Engine extends AutoCloseable {
  int sampleFloats();

  int classes();

  /** Numbers in the weights. */
  int parameters();

  /** The first weights, binary32 [parameters]. */
  void initial(ByteBuffer weights);

  /** Logits, binary32 [rows, classes]. {@code training}: a backward call for the same rows follows. */
  void forward(ByteBuffer weights, ByteBuffer samples, int rows, boolean training, ByteBuffer logits)
      throws TrainerException;

  /** Adds d loss / d weights to {@code gradient}, binary32 [parameters], from d loss / d logits of the last forward. */
  void backward(ByteBuffer weights, ByteBuffer samples, int rows, ByteBuffer upstream, ByteBuffer gradient)
      throws TrainerException;

  @Override
  void close();
}
