package fedagg.bridge.agent;

import fedagg.bridge.model.TrainingFile;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** What a training file (docs/on-device.md) says of its model; {@link #of} takes it from the file. */
public final class TfliteModel {
  final int[] sampleShape;
  final int classes;
  final int trained;
  final int seen;
  final float[] counted;
  boolean changesBuffers; // whether a training pass gives new ones
  private final List<Mask> masks = new ArrayList<>();

  /**
   * Counts are of numbers in the flat weights: {@code trained} parameters first, then what the graphs see but do not
   * train, {@code seen} with the parameters, then one counter for each of {@code counted}, which it grows by in a pass.
   *
   * @param sampleShape without the batch
   */
  public TfliteModel(int[] sampleShape, int classes, int trained, int seen, float... counted) {
    boolean fits = sampleShape.length > 0 && classes > 0 && trained > 0 && seen >= trained;
    for (int side : sampleShape) {
      fits &= side > 0;
    }
    if (!fits) {
      throw new IllegalArgumentException(
          "model: got " + classes + " classes, " + trained + " trained of " + seen + " weights in " + sampleShape.length
              + " dimensions, expected all above 0 and no more trained than seen; take them from the training file");
    }
    this.sampleShape = sampleShape.clone();
    this.classes = classes;
    this.trained = trained;
    this.seen = seen;
    changesBuffers = seen > trained;
    this.counted = counted.clone();
  }

  /** What a file says of its model. */
  public static TfliteModel of(TrainingFile file) {
    TfliteModel model =
        new TfliteModel(file.sampleShape(), file.classes(), file.trained(), file.seen(), file.counted());
    for (TrainingFile.Mask mask : file.masks()) {
      model.mask(mask.name, mask.keep, mask.shape());
    }
    model.changesBuffers = file.changesBuffers();
    return model;
  }

  /** A random input of a training pass: 1 with probability {@code keep}, else 0; {@code shape} without the batch. */
  public TfliteModel mask(String name, float keep, int... shape) {
    masks.add(new Mask(name, keep, shape.clone()));
    return this;
  }

  /** Numbers of a sample. */
  int sampleFloats() {
    return product(sampleShape);
  }

  /** Numbers in the flat weights, counters too. */
  int numbers() {
    return seen + counted.length;
  }

  List<Mask> masks() {
    return Collections.unmodifiableList(masks);
  }

  static int product(int[] shape) {
    int size = 1;
    for (int side : shape) {
      size = Math.multiplyExact(size, side);
    }
    return size;
  }

  static final class Mask {
    final String name;
    final float keep;
    final int[] shape;

    private Mask(String name, float keep, int[] shape) {
      this.name = name;
      this.keep = keep;
      this.shape = shape;
    }
  }
}
