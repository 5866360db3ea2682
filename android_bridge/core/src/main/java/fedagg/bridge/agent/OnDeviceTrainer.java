package fedagg.bridge.agent;

import java.nio.ByteBuffer;

/** A model on this device that can be asked and trained. One thread at a time. */
public interface OnDeviceTrainer extends AutoCloseable {
  /** Numbers of a sample. */
  int sampleFloats();

  int classes();

  /** Logits, binary32 [rows, classes], of samples, binary32 [rows, sampleFloats]; changes nothing. */
  void logits(ByteBuffer samples, int rows, ByteBuffer out) throws TrainerException;

  /** One update on a leaf's loss (eq. 4). A loss that is not finite throws and leaves the weights as they were. */
  StepReport step(Batch batch, Hyperparameters hyperparameters) throws TrainerException;

  /** Weights and the optimizer's state. */
  byte[] save() throws TrainerException;

  /** Go on from what {@link #save} gave; throws for another model's. */
  void load(byte[] state) throws TrainerException;

  @Override
  void close();
}
