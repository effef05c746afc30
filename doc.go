// Package perdure is the root of a toolkit that makes calls outlast failures
// without making the failures worse. It holds what the parts have in common, how
// they are configured in text; the parts are packages:
//
//   - [github.com/seed-0f2c7998/perdure/retry]: the loop, its policy, its presets
//   - [github.com/seed-0f2c7998/perdure/circuit]: the breaker and the budget, what calls to one service share
//   - [github.com/seed-0f2c7998/perdure/httpretry]: the same for an http.Client
//
// Modules of their own, because they need code of others:
// github.com/seed-0f2c7998/perdure/awsretry for the AWS SDK, and
// github.com/seed-0f2c7998/perdure/cmd/perdure, the command.
package perdure
