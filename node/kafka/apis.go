package kafka

// api is one row of the table of APIs: what is advertised, what is accepted,
// and who answers.
type api struct {
	key      int16
	min, max int16   // advertised by ApiVersions
	accepts  int16   // lowest version really served; above min only for Produce
	serve    handler // nil for Produce and Fetch
}
