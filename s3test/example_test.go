package s3test_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// In a test this is s3test.Start(t, ...), which needs neither the error nor Close.
func Example() {
	server, err := s3test.New(s3test.Options{Buckets: []string{"bikes"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	server.SetScript(s3test.Rules(
		s3test.Rule{Operation: "PutObject", Nth: []int{1}, Fault: s3test.SlowDown()},
	))

	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(server.URL),
		Region:       "us-east-1",
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
		Retryer:      aws.NopRetryer{},
	})
	upload := func() error {
		_, err := client.PutObject(context.Background(), &s3.PutObjectInput{
			Bucket: aws.String("bikes"), Key: aws.String("hour.csv"), Body: strings.NewReader("instant,cnt"),
		})
		return err
	}
	for upload() != nil { // your own code that retries stands here
	}

	for _, request := range server.Requests() {
		fmt.Println(request.Operation, request.Path, request.Status, request.Fault)
	}
	stored, _ := server.Object("bikes", "hour.csv")
	fmt.Printf("%s\n", stored)
	// Output:
	// PutObject /bikes/hour.csv 503 503 SlowDown
	// PutObject /bikes/hour.csv 200 none
	// instant,cnt
}
