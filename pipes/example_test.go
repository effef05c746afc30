package pipes_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

// dagster looks up the variables that Dagster sets: one asset, and messages to standard
// output.
func dagster(name string) (string, bool) {
	value, ok := map[string]string{
		"DAGSTER_PIPES_CONTEXT":  "eJyrVkpJLElUslKoVkosLk4tic9OrSwGcqOVcivjwSJKsToKSkWlefGZKUBxpSJDJRA/taSoMj6vNDcptQgoagAUSq0oKUoEaa2ura0FAOVIHGY=",
		"DAGSTER_PIPES_MESSAGES": "eJyrViouScnMV7JSADHyS0uUagFBeAah",
	}[name]
	return value, ok
}

// A program is one function. Run calls it and returns the exit code: a main is
// os.Exit(pipes.Run(work)).
func ExampleConfig_Run() {
	c := pipes.Config{LookupEnv: dagster} // pipes.Run has the zero Config
	code := c.Run(func(_ context.Context, s *pipes.Session) error {
		s.Logger().Info("read the stations", "run", s.Context.RunID)
		return s.Materialize(pipes.Materialization{Metadata: pipes.Metadata{
			"rows": pipes.Int(17379), "seconds": pipes.Seconds(2 * time.Second),
		}})
	})
	fmt.Println(code)
	// Output:
	// {"__dagster_pipes_version":"0.1","method":"opened","params":{"extras":{}}}
	// {"__dagster_pipes_version":"0.1","method":"log","params":{"message":"read the stations run=r1","level":"INFO"}}
	// {"__dagster_pipes_version":"0.1","method":"report_asset_materialization","params":{"asset_key":"my_asset","data_version":null,"metadata":{"rows":{"raw_value":17379,"type":"int"},"seconds":{"raw_value":2.0,"type":"float"}}}}
	// {"__dagster_pipes_version":"0.1","method":"closed","params":{}}
	// 0
}

// The retries of a policy become lines of the step's log. At the end the outcome says
// whether and when to retry the step.
func ExampleSession_Observe() {
	s, err := pipes.Open(context.Background(), pipes.Config{LookupEnv: dagster, Stderr: os.Stdout})
	if err != nil {
		fmt.Println(err)
	}
	upload := retry.Policy{
		Name: "upload_to_s3", MaxAttempts: 2, BaseDelay: 10 * time.Millisecond, Jitter: retry.NoJitter, Classify: retry.Always,
		Breaker: circuit.New("s3_upload", circuit.Config{}),
	}
	upload.Observe = s.Observe(upload.Breaker)
	err = retry.Do(context.Background(), &upload, func(context.Context) error { return errors.New("SlowDown") })
	s.Close(err)
	fmt.Println(pipes.ExitCode(err))
	// Output:
	// {"__dagster_pipes_version":"0.1","method":"opened","params":{"extras":{}}}
	// {"__dagster_pipes_version":"0.1","method":"log","params":{"message":"Retrying upload_to_s3 in 0.010 seconds (attempt 1/2): SlowDown","level":"INFO"}}
	// {"__dagster_pipes_version":"0.1","method":"log","params":{"message":"upload_to_s3 failed after 2 attempts (attempts exhausted): SlowDown","level":"WARNING"}}
	// {"__dagster_pipes_version":"0.1","method":"report_custom_message","params":{"payload":{"attempts":2,"breaker":{"name":"s3_upload","state":"closed"},"exit_code":1,"kind":"perdure/outcome","last_error":"SlowDown","outcome":"exhausted","retry_after_s":null,"retryable":true,"version":1,"waited_s":0.01}}}
	// {"__dagster_pipes_version":"0.1","method":"closed","params":{"exception":{"message":"upload_to_s3: attempts exhausted after 2 attempts: SlowDown","stack":[],"name":"retry.Error","cause":{"message":"SlowDown","stack":[],"name":"errors.errorString","cause":null,"context":null},"context":null}}}
	// 1
}
