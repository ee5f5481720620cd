package api

type documents struct{}

const documentIntro = ""

func (s *server) registerDetectors()       {}
func (s *server) registerDetectorActions() {}
func (s *server) registerModels()          {}
func (s *server) registerReplay()          {}
func (s *server) registerAnomalies()       {}
func (s *server) registerSources()         {}
func (s *server) registerTasks()           {}
func (s *server) registerErrors()          {}
func (s *server) registerSystem()          {}
func (s *server) registerDocs()            {}
func (s *server) registerUI()              {}
func (s *server) finishDocument() error    { return nil }
func (s *server) document(operation)       {}
