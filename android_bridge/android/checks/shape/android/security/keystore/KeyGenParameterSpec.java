package android.security.keystore;

import java.security.spec.AlgorithmParameterSpec;

/** Not Android's class: its public shape as far as KeystoreKey uses it, written from the documentation. */
public final class KeyGenParameterSpec implements AlgorithmParameterSpec {
  private final String alias;
  private final int purposes;
  private AlgorithmParameterSpec curve;
  private String[] digests = {};

  private KeyGenParameterSpec(String alias, int purposes) {
    this.alias = alias;
    this.purposes = purposes;
  }

  public String getKeystoreAlias() {
    return alias;
  }

  public int getPurposes() {
    return purposes;
  }

  public AlgorithmParameterSpec getAlgorithmParameterSpec() {
    return curve;
  }

  public String[] getDigests() {
    return digests.clone();
  }

  public static final class Builder {
    private final KeyGenParameterSpec made;

    public Builder(String alias, int purposes) {
      made = new KeyGenParameterSpec(alias, purposes);
    }

    public Builder setAlgorithmParameterSpec(AlgorithmParameterSpec spec) {
      made.curve = spec;
      return this;
    }

    public Builder setDigests(String... digests) {
      made.digests = digests.clone();
      return this;
    }

    public KeyGenParameterSpec build() {
      return made;
    }
  }
}
