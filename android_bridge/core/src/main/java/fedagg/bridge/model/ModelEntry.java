package fedagg.bridge.model;

/** One array of a model's flat weights. */
public final class ModelEntry {
  /** What becomes of an array in training. */
  public enum Kind {
    /** By gradients. */
    TRAINED,
    /** Frozen, or a running figure that a training pass leaves changed. */
    BUFFER,
    /** A whole number, of training passes; TFLite's graphs do not see it. */
    COUNTER
  }

  /** As torch calls it. */
  public final String name;

  public final Kind kind;
  /** Where it begins in the flat weights. */
  public final int start;
  /** Its numbers. */
  public final int size;

  private final int[] shape;

  ModelEntry(String name, int[] shape, Kind kind, int start) {
    this.name = name;
    this.shape = shape;
    this.kind = kind;
    this.start = start;
    size = (int) Shapes.numbers(shape);
  }

  /** In torch's layout; no dimensions for a single number. */
  public int[] shape() {
    return shape.clone();
  }
}
