package fedagg.bridge.android;

import android.security.keystore.KeyGenParameterSpec;
import java.io.InputStream;
import java.io.OutputStream;
import java.security.InvalidAlgorithmParameterException;
import java.security.Key;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyPairGeneratorSpi;
import java.security.KeyStoreSpi;
import java.security.Provider;
import java.security.ProviderException;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.cert.Certificate;
import java.security.spec.AlgorithmParameterSpec;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Date;
import java.util.Enumeration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import javax.crypto.spec.SecretKeySpec;

/** A provider called AndroidKeyStore with keys in memory, for KeystoreKeyTest. */
public final class SoftwareKeystore extends Provider {
  private static final long serialVersionUID = 1;
  static final List<KeyGenParameterSpec> asked = new ArrayList<>();
  private static final Map<String, KeyPair> pairs = new HashMap<>();
  private static boolean planted;
  private static boolean broken;

  @SuppressWarnings("deprecation") // a version in words came with Java 9
  public SoftwareKeystore() {
    super("AndroidKeyStore", 1, "for tests");
    put("KeyStore.AndroidKeyStore", Store.class.getName());
    put("KeyPairGenerator.EC", Generator.class.getName());
  }

  static void forgetAll() {
    asked.clear();
    pairs.clear();
    planted = false;
    broken = false;
  }

  /** Another kind of key under every name. */
  static void plant(String alias) {
    pairs.put(alias, null);
    planted = true;
  }

  /** A key that is there already. */
  static void put(String alias, KeyPair pair) {
    pairs.put(alias, pair);
  }

  /** From now on its hardware fails, as Android tells it: unchecked. */
  static void breakDown() {
    broken = true;
  }

  /** What the service class path of the provider makes. */
  public static final class Generator extends KeyPairGeneratorSpi {
    private KeyGenParameterSpec spec;

    @Override
    public void initialize(int size, SecureRandom random) {
      throw new UnsupportedOperationException("give a KeyGenParameterSpec");
    }

    @Override
    public void initialize(AlgorithmParameterSpec given, SecureRandom random)
        throws InvalidAlgorithmParameterException {
      if (!(given instanceof KeyGenParameterSpec)) {
        throw new InvalidAlgorithmParameterException("give a KeyGenParameterSpec");
      }
      spec = (KeyGenParameterSpec) given;
    }

    @Override
    public KeyPair generateKeyPair() {
      if (broken) {
        throw new ProviderException("the secure element does not answer");
      }
      try {
        KeyPairGenerator real = KeyPairGenerator.getInstance("EC", "SunEC");
        real.initialize(spec.getAlgorithmParameterSpec());
        KeyPair pair = real.generateKeyPair();
        asked.add(spec);
        pairs.put(spec.getKeystoreAlias(), pair);
        return pair;
      } catch (java.security.GeneralSecurityException error) {
        throw new IllegalStateException(error);
      }
    }
  }

  /** The entries of the provider. */
  public static final class Store extends KeyStoreSpi {
    @Override
    public Key engineGetKey(String alias, char[] password) {
      KeyPair pair = pairs.get(alias);
      return planted ? new SecretKeySpec(new byte[16], "AES") : pair == null ? null : pair.getPrivate();
    }

    @Override
    public Certificate engineGetCertificate(String alias) {
      KeyPair pair = pairs.get(alias);
      return pair == null ? null : new Bare(pair.getPublic());
    }

    @Override
    public boolean engineContainsAlias(String alias) {
      return pairs.containsKey(alias);
    }

    @Override
    public void engineLoad(InputStream stream, char[] password) {}

    @Override
    public Certificate[] engineGetCertificateChain(String alias) {
      return new Certificate[] {engineGetCertificate(alias)};
    }

    @Override
    public Date engineGetCreationDate(String alias) {
      return new Date(0);
    }

    @Override
    public void engineSetKeyEntry(String alias, Key key, char[] password, Certificate[] chain) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void engineSetKeyEntry(String alias, byte[] key, Certificate[] chain) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void engineSetCertificateEntry(String alias, Certificate certificate) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void engineDeleteEntry(String alias) {
      pairs.remove(alias);
    }

    @Override
    public Enumeration<String> engineAliases() {
      return Collections.enumeration(pairs.keySet());
    }

    @Override
    public int engineSize() {
      return pairs.size();
    }

    @Override
    public boolean engineIsKeyEntry(String alias) {
      return pairs.containsKey(alias);
    }

    @Override
    public boolean engineIsCertificateEntry(String alias) {
      return false;
    }

    @Override
    public String engineGetCertificateAlias(Certificate certificate) {
      return null;
    }

    @Override
    public void engineStore(OutputStream stream, char[] password) {
      throw new UnsupportedOperationException();
    }
  }

  /** A certificate that says a public key and nothing else. */
  private static final class Bare extends Certificate {
    private static final long serialVersionUID = 1;
    private final transient PublicKey key;

    Bare(PublicKey key) {
      super("X.509");
      this.key = key;
    }

    @Override
    public PublicKey getPublicKey() {
      return key;
    }

    @Override
    public byte[] getEncoded() {
      return new byte[0];
    }

    @Override
    public void verify(PublicKey with) {}

    @Override
    public void verify(PublicKey with, String provider) {}

    @Override
    public String toString() {
      return "bare";
    }
  }
}
