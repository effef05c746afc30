package perdure_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An upload that fails twice, with all that a pipeline step needs: a preset, a
// circuit breaker that it shares with other uploads, log lines, and an error
// that says what became of it.
func Example() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: messages}))

	upload := retry.S3Upload()
	upload.Name = "upload_to_s3"
	upload.BaseDelay = time.Millisecond // the preset waits 1 s, 2 s, 4 s, ...
	upload.Jitter = retry.NoJitter      // and up to 1 s more
	upload.Classify = retry.Always      // every error is worth a retry
	upload.Observe = retry.LogTo(log)   // without it: slog.Default()
	upload.Breaker = circuit.New("s3_upload", circuit.Config{FailureThreshold: 5, RecoveryTimeout: 30 * time.Second})

	attempt := 0
	key, err := retry.Value(context.Background(), &upload, func(context.Context) (string, error) {
		if attempt++; attempt < 3 {
			return "", errors.New("503 SlowDown")
		}
		return "data.json", nil
	})

	var failed *retry.Error
	switch {
	case errors.As(err, &failed):
		fmt.Printf("failed after %d attempts: %v\n", failed.Attempts, failed.Last)
	case err != nil:
		fmt.Println("not worth a retry:", err)
	default:
		fmt.Println("uploaded", key)
	}
	// Output:
	// level=INFO msg="Retrying upload_to_s3 in 0.0010 seconds (attempt 1/5)"
	// level=INFO msg="Retrying upload_to_s3 in 0.0020 seconds (attempt 2/5)"
	// level=INFO msg="upload_to_s3 succeeded on attempt 3"
	// uploaded data.json
}

// messages leaves level and message of a log line, so that it can be compared.
func messages(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.LevelKey || a.Key == slog.MessageKey {
		return a
	}
	return slog.Attr{}
}
