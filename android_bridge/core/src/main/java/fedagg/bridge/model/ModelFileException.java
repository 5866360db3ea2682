package fedagg.bridge.model;

/** A file that is no model of ours, a damaged one, or one of another version; it says which and what to do. */
public final class ModelFileException extends Exception {
  private static final long serialVersionUID = 1L;

  public ModelFileException(String message) {
    super(message);
  }

  public ModelFileException(String message, Throwable cause) {
    super(message, cause);
  }
}
