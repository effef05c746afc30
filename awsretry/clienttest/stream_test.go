package clienttest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/transcribestreaming"
	"github.com/aws/smithy-go/eventstream"

	"github.com/seed-0f2c7998/perdure/awsretry"
)

// write sends one event of a stream.
func write(w http.ResponseWriter, kind, contentType, payload string) {
	_ = eventstream.NewEncoder().Encode(w, eventstream.Message{
		Headers: eventstream.Headers{
			{Name: ":message-type", Value: eventstream.StringValue("event")},
			{Name: ":event-type", Value: eventstream.StringValue(kind)},
			{Name: ":content-type", Value: eventstream.StringValue(contentType)},
		},
		Payload: []byte(payload),
	})
	_ = http.NewResponseController(w).Flush()
}

// count reads a stream to its end, and returns how many events it had. The server sends the rest only now.
func count[E any](rest func(), stream interface {
	Events() <-chan E
	Err() error
	Close() error
},
) (n int, err error) {
	rest()
	for range stream.Events() {
		n++
	}
	return n, errors.Join(stream.Err(), stream.Close())
}

// A streaming operation returns a stream of the events that its server sends.
type streaming struct {
	kind, contentType, payload string // of each event
	call                       func(ctx context.Context, cfg aws.Config, rest func()) (events int, err error)
}

var streams = map[string]streaming{
	"S3 GetObject": {"", "", "x", func(ctx context.Context, cfg aws.Config, rest func()) (int, error) {
		out, err := s3.NewFromConfig(cfg, pathStyle).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
		if err != nil {
			return 0, err
		}
		rest()
		body, err := io.ReadAll(out.Body)
		return len(body), errors.Join(err, out.Body.Close())
	}},
	"S3 SelectObjectContent": {"Records", "application/octet-stream", "x", func(ctx context.Context, cfg aws.Config, rest func()) (int, error) {
		out, err := s3.NewFromConfig(cfg, pathStyle).SelectObjectContent(ctx, &s3.SelectObjectContentInput{
			Bucket: aws.String("b"), Key: aws.String("k"), Expression: aws.String("select * from s3object"), ExpressionType: s3types.ExpressionTypeSql,
			InputSerialization: &s3types.InputSerialization{CSV: &s3types.CSVInput{}}, OutputSerialization: &s3types.OutputSerialization{CSV: &s3types.CSVOutput{}},
		})
		if err != nil {
			return 0, err
		}
		return count(rest, out.GetStream())
	}},
	"Kinesis SubscribeToShard": {"SubscribeToShardEvent", "application/json", `{"Records": []}`, func(ctx context.Context, cfg aws.Config, rest func()) (int, error) {
		out, err := kinesis.NewFromConfig(cfg).SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{
			ConsumerARN: aws.String("arn:aws:kinesis:eu-central-1:1:stream/s/consumer/c:1"), ShardId: aws.String("s"),
			StartingPosition: &kinesistypes.StartingPosition{Type: kinesistypes.ShardIteratorTypeLatest},
		})
		if err != nil {
			return 0, err
		}
		return count(rest, out.GetStream())
	}},
	"Bedrock InvokeModelWithResponseStream": {"chunk", "application/json", `{"bytes": "eA=="}`, func(ctx context.Context, cfg aws.Config, rest func()) (int, error) {
		out, err := bedrockruntime.NewFromConfig(cfg).InvokeModelWithResponseStream(ctx, &bedrockruntime.InvokeModelWithResponseStreamInput{ModelId: aws.String("m")})
		if err != nil {
			return 0, err
		}
		return count(rest, out.GetStream())
	}},
	"Bedrock ConverseStream": {"messageStart", "application/json", `{"role": "assistant"}`, func(ctx context.Context, cfg aws.Config, rest func()) (int, error) {
		out, err := bedrockruntime.NewFromConfig(cfg).ConverseStream(ctx, &bedrockruntime.ConverseStreamInput{ModelId: aws.String("m")})
		if err != nil {
			return 0, err
		}
		return count(rest, out.GetStream())
	}},
	"Transcribe StartStreamTranscription": {"TranscriptEvent", "application/json", `{"Transcript": {"Results": []}}`, func(ctx context.Context, cfg aws.Config, rest func()) (int, error) {
		out, err := transcribestreaming.NewFromConfig(cfg).StartStreamTranscription(ctx, transcription())
		if err != nil {
			return 0, err
		}
		return count(rest, out.GetStream())
	}},
}

// The attempt ended with the result unless that had a field Body, so a query of S3 Select gave what had come by then.
func TestAttemptTimeoutLeavesStreamsOpen(t *testing.T) {
	const events = 5
	for name, tt := range streams {
		t.Run(name, func(t *testing.T) {
			rest := make(chan struct{})
			server := start(t, func(w http.ResponseWriter, r *http.Request) {
				send := func() {
					if tt.kind == "" {
						_, _ = io.WriteString(w, tt.payload)
						_ = http.NewResponseController(w).Flush()
						return
					}
					write(w, tt.kind, tt.contentType, tt.payload)
				}
				w.Header().Set("Etag", `"x"`)
				w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
				if r.Header.Get("X-Amz-Target") != "" { // a protocol in which the response itself is an event, too
					write(w, "initial-response", "application/json", "{}")
				}
				send()
				select {
				case <-rest:
				case <-r.Context().Done():
					return
				}
				for range events - 1 {
					send()
				}
			})
			p := quick(t)
			p.AttemptTimeout = time.Hour
			cfg := configure(server)
			awsretry.Apply(&cfg, &p)
			n, err := tt.call(t.Context(), cfg, func() { close(rest) })
			if n != events || err != nil {
				t.Errorf("%d events, %v, want %d", n, err, events)
			}
		})
	}
}

// An attempt whose result has come leaves nothing behind in the context of the caller, however long that lasts.
func TestAttemptTimeoutEndsWithTheBody(t *testing.T) {
	for name, call := range operations {
		if name == "StartStreamTranscription" || name == "GetObject" {
			continue // what they return is the caller's to close
		}
		t.Run(name, func(t *testing.T) {
			var attempts []context.Context
			server := start(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case isToken(w, r):
				case r.Header.Get("X-Amz-Target") == "" && name == "GetCallerIdentity":
					_, _ = io.WriteString(w, "<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>")
				default:
					_, _ = io.WriteString(w, "{}")
				}
			})
			p := quick(t)
			p.AttemptTimeout = time.Hour
			cfg := configure(server)
			cfg.HTTPClient = recorder{cfg.HTTPClient, &attempts}
			awsretry.Apply(&cfg, &p)
			if err := call(t.Context(), cfg); err != nil || len(attempts) == 0 {
				t.Fatalf("%v after %d attempts", err, len(attempts))
			}
			for i, ctx := range attempts {
				if ctx.Err() == nil {
					t.Errorf("the context of request %d of %d has not ended", i+1, len(attempts))
				}
			}
		})
	}
}

// A recorder keeps the context of each request.
type recorder struct {
	aws.HTTPClient
	contexts *[]context.Context
}

func (r recorder) Do(req *http.Request) (*http.Response, error) {
	*r.contexts = append(*r.contexts, req.Context())
	return r.HTTPClient.Do(req)
}
