import com.datastax.driver.mapping.annotations.ClusteringColumn;
import com.datastax.driver.mapping.annotations.Column;
import com.datastax.driver.mapping.annotations.PartitionKey;
import com.datastax.driver.mapping.annotations.Table;
import java.io.Serializable;
import java.util.Collections;
import java.util.Date;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.coders.SerializableCoder;
import org.apache.beam.sdk.io.cassandra.CassandraIO;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.transforms.Count;
import org.apache.beam.sdk.transforms.DoFn;
import org.apache.beam.sdk.transforms.ParDo;

/** Counts the rows of a table of feature_store's layout with Beam's CassandraIO on the DirectRunner, its checks off. */
public class ReadTable {
  private static final AtomicLong ROWS = new AtomicLong(); // the DirectRunner runs in this JVM

  /** A row of feature_store. */
  @Table(name = "feature_store")
  public static class Feature implements Serializable {
    @PartitionKey(0) @Column(name = "model_id") public String modelId;
    @PartitionKey(1) @Column(name = "feature_name") public String featureName;
    @ClusteringColumn @Column(name = "timestamp") public Date timestamp;
    @Column(name = "value") public Double value;
    @Column(name = "metadata") public Map<String, String> metadata;
    @Column(name = "user_id") public String userId;

    public String getModelId() { return modelId; }
    public void setModelId(String it) { modelId = it; }
    public String getFeatureName() { return featureName; }
    public void setFeatureName(String it) { featureName = it; }
    public Date getTimestamp() { return timestamp; }
    public void setTimestamp(Date it) { timestamp = it; }
    public Double getValue() { return value; }
    public void setValue(Double it) { value = it; }
    public Map<String, String> getMetadata() { return metadata; }
    public void setMetadata(Map<String, String> it) { metadata = it; }
    public String getUserId() { return userId; }
    public void setUserId(String it) { userId = it; }
  }

  static class Keep extends DoFn<Long, Void> {
    @ProcessElement
    public void process(@Element Long count) {
      ROWS.addAndGet(count);
    }
  }

  /** Takes host, port, keyspace and table. */
  public static void main(String[] args) {
    Pipeline pipeline =
        Pipeline.create(
            PipelineOptionsFactory.fromArgs(
                    "--runner=DirectRunner", "--enforceImmutability=false", "--enforceEncodability=false")
                .create());
    pipeline
        .apply(
            CassandraIO.<Feature>read()
                .withHosts(Collections.singletonList(args[0]))
                .withPort(Integer.parseInt(args[1]))
                .withKeyspace(args[2])
                .withTable(args[3])
                .withEntity(Feature.class)
                .withCoder(SerializableCoder.of(Feature.class)))
        .apply(Count.globally())
        .apply(ParDo.of(new Keep()));
    long began = System.nanoTime();
    try {
      pipeline.run().waitUntilFinish();
    } catch (RuntimeException error) {
      error.printStackTrace();
      System.exit(1); // the driver's threads would keep it
    }
    double wall = (System.nanoTime() - began) / 1e9;
    double cpu = ProcessHandle.current().info().totalCpuDuration().get().toMillis() / 1e3;
    System.out.printf("{\"rows\": %d, \"wall\": %.3f, \"cpu\": %.3f}%n", ROWS.get(), wall, cpu);
    System.exit(0);
  }
}
