package fedagg.bridge.wire;

/** What a child end tells its node: what came of an answer. */
public final class Event {
  /** Which of the fields say something is said beside each. */
  public enum Kind {
    /** {@code welcome}. */
    WELCOMED,
    /** {@code number}: the entry that an own batch has become. */
    COMMITTED,
    /** An entry that the parent wrote is here. */
    FOLLOWED,
    /** {@code number}: the version of the parent's knowledge that is here now. */
    HEARD,
    /** {@code number}: the version of this node's knowledge that the parent has committed. */
    ACCEPTED,
    /** {@code notice}; it comes again until the state's {@code noticed} is raised. */
    NOTICE,
    /** {@code number}: the move that is over. */
    MOVED,
    /** The training is over. */
    FINISHED,
    /** {@code number}: the status, 0 for an answer that could not be read; {@code problem}. */
    REFUSED
  }

  public final Kind kind;
  public final long number;
  public final Messages.Welcome welcome;
  public final Messages.Notice notice;
  public final Messages.Problem problem;

  private Event(
      Kind kind, long number, Messages.Welcome welcome, Messages.Notice notice, Messages.Problem problem) {
    this.kind = kind;
    this.number = number;
    this.welcome = welcome;
    this.notice = notice;
    this.problem = problem;
  }

  static Event of(Kind kind, long number) {
    return new Event(kind, number, null, null, null);
  }

  static Event welcomed(Messages.Welcome welcome) {
    return new Event(Kind.WELCOMED, 0, welcome, null, null);
  }

  static Event notice(Messages.Notice notice) {
    return new Event(Kind.NOTICE, notice.number, null, notice, null);
  }

  static Event refused(int status, Messages.Problem problem) {
    return new Event(Kind.REFUSED, status, null, null, problem);
  }
}
