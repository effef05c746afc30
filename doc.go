// Package perdure is the root of a toolkit that makes calls outlast failures
// without making the failures worse. Package perdure itself holds how the other packages
// are configured in text. The packages:
//
//   - [github.com/seed-0f2c7998/perdure/retry]: the loop, its policy, its presets
//   - [github.com/seed-0f2c7998/perdure/circuit]: breaker, gate, budget and limits, shared per key
//   - [github.com/seed-0f2c7998/perdure/hoststore]: shares that state between the processes of a host
//   - [github.com/seed-0f2c7998/perdure/httpretry]: an http.RoundTripper that retries and resumes
//   - [github.com/seed-0f2c7998/perdure/pipes]: Dagster Pipes for Go programs
//   - [github.com/seed-0f2c7998/perdure/sim]: simulates policies against a failing service
//
// Modules of their own, because they require other modules:
// github.com/seed-0f2c7998/perdure/awsretry for the AWS SDK,
// github.com/seed-0f2c7998/perdure/redisstore for state in Redis,
// github.com/seed-0f2c7998/perdure/s3test, an S3 server for tests, and
// github.com/seed-0f2c7998/perdure/cmd/perdure, the command.
//
// Before version 1.0 a minor version may rename or remove exported names of any
// of these packages; a patch version does not. CHANGELOG.md has a line for each
// change.
package perdure
