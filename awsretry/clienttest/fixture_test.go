package clienttest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sso"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/transcribestreaming"
	"github.com/aws/aws-sdk-go-v2/service/transcribestreaming/types"

	"github.com/seed-0f2c7998/perdure/retry"
)

// start starts a server that speaks HTTP/2, as the streams of some services need.
func start(t *testing.T, serve http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(serve)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func configure(server *httptest.Server) aws.Config {
	return aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL, HTTPClient: server.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}
}

// quick is a policy of three attempts that hardly waits.
func quick(t *testing.T) retry.Policy {
	t.Helper()
	return retry.Policy{
		MaxAttempts: 3, BaseDelay: time.Millisecond, Jitter: retry.NoJitter,
		Observe: func(_ context.Context, e retry.Event) {
			t.Logf("%s, attempt %d: %v, %v: %v", e.Operation, e.Attempt, e.Kind, e.Class, e.Err)
		},
	}
}

func metadata(cfg aws.Config) *imds.Client {
	return imds.NewFromConfig(cfg, func(o *imds.Options) { o.Endpoint, o.DisableDefaultTimeout = *cfg.BaseEndpoint, true })
}

// operations holds one of each client, by the SDK's name of it. Their generated code differs in what is within the loop.
var operations = map[string]func(context.Context, aws.Config) error{
	"GetObject": func(ctx context.Context, cfg aws.Config) error {
		_, err := s3.NewFromConfig(cfg, pathStyle).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
		return err
	},
	"ListTables": func(ctx context.Context, cfg aws.Config) error {
		_, err := dynamodb.NewFromConfig(cfg).ListTables(ctx, &dynamodb.ListTablesInput{})
		return err
	},
	"ListQueues": func(ctx context.Context, cfg aws.Config) error {
		_, err := sqs.NewFromConfig(cfg).ListQueues(ctx, &sqs.ListQueuesInput{})
		return err
	},
	"GetCallerIdentity": func(ctx context.Context, cfg aws.Config) error {
		_, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		return err
	},
	"ListAccounts": func(ctx context.Context, cfg aws.Config) error {
		_, err := sso.NewFromConfig(cfg).ListAccounts(ctx, &sso.ListAccountsInput{AccessToken: aws.String("t")})
		return err
	},
	"GetMetadata": func(ctx context.Context, cfg aws.Config) error {
		_, err := metadata(cfg).GetMetadata(ctx, &imds.GetMetadataInput{})
		return err
	},
	"ListStreams": func(ctx context.Context, cfg aws.Config) error {
		_, err := kinesis.NewFromConfig(cfg).ListStreams(ctx, &kinesis.ListStreamsInput{})
		return err
	},
	"InvokeModel": func(ctx context.Context, cfg aws.Config) error {
		_, err := bedrockruntime.NewFromConfig(cfg).InvokeModel(ctx, &bedrockruntime.InvokeModelInput{ModelId: aws.String("m")})
		return err
	},
	"StartStreamTranscription": func(ctx context.Context, cfg aws.Config) error {
		_, err := transcribestreaming.NewFromConfig(cfg).StartStreamTranscription(ctx, transcription())
		return err
	},
}

func pathStyle(o *s3.Options) { o.UsePathStyle = true }

func transcription() *transcribestreaming.StartStreamTranscriptionInput {
	return &transcribestreaming.StartStreamTranscriptionInput{
		LanguageCode: types.LanguageCodeEnUs, MediaEncoding: types.MediaEncodingPcm, MediaSampleRateHertz: aws.Int32(8000),
	}
}

// isToken responds to the request for a token that the client of the instance's metadata makes first, if it is one.
func isToken(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPut || r.URL.Path != "/latest/api/token" {
		return false
	}
	w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
	_, _ = w.Write([]byte("token"))
	return true
}
