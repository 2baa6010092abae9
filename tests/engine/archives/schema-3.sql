BEGIN TRANSACTION;
CREATE TABLE candidates (
	number INTEGER NOT NULL, 
	iteration INTEGER NOT NULL, 
	program_id VARCHAR(32) NOT NULL, 
	source TEXT NOT NULL, 
	origin VARCHAR(32) NOT NULL, 
	generator VARCHAR(32) NOT NULL, 
	prompt TEXT NOT NULL, 
	text TEXT NOT NULL, 
	sampling JSON NOT NULL, 
	parents JSON NOT NULL, 
	task VARCHAR(32) NOT NULL, 
	judged FLOAT, 
	outcome VARCHAR(16) NOT NULL, 
	reason VARCHAR(32), 
	detail TEXT, 
	line INTEGER, 
	rule VARCHAR(64), 
	duplicate_of VARCHAR(32), 
	behaviour VARCHAR(64), 
	sha256 VARCHAR(64), 
	value FLOAT, 
	score JSON, 
	execute_seconds DOUBLE NOT NULL, 
	score_seconds DOUBLE NOT NULL, 
	peak_memory_bytes INTEGER NOT NULL, 
	isolation VARCHAR(16), 
	PRIMARY KEY (number)
);
INSERT INTO "candidates" VALUES(1,1,'000000000001','def merge_models(model_dict, device):
    return 1 * sum(model_dict.values())
','generator','0','prompt','def merge_models(model_dict, device):
    return 1 * sum(model_dict.values())
','{"temperature": 1.0, "top_p": 1.0, "seed": 1, "batch": 0, "row": 1, "top_k": 0}','[]','one_shot',NULL,'ok',NULL,NULL,NULL,NULL,NULL,'b1',NULL,0.75,'{"value": 0.75, "strict": 0.75, "lenient": 0.75, "low": 0.656955364519384, "high": 0.8245478863771232, "n": 100, "of": 100, "effective_n": 100, "bits": "1111111111111111111111111111111111111111111111111111111111111111111111111110000000000000000000000000", "strict_bits": "1111111111111111111111111111111111111111111111111111111111111111111111111110000000000000000000000000", "lenient_bits": "1111111111111111111111111111111111111111111111111111111111111111111111111110000000000000000000000000", "scorer_version": "1", "families": {"sums": 0.75}}',0.0,0.0,0,NULL);
INSERT INTO "candidates" VALUES(2,1,'000000000002','def merge_models(model_dict, device):
    return 2 * sum(model_dict.values())
','generator','0','prompt','def merge_models(model_dict, device):
    return 2 * sum(model_dict.values())
','{"temperature": 1.0, "top_p": 1.0, "seed": 2, "batch": 0, "row": 2, "top_k": 0}','[]','one_shot',NULL,'failed','exception',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0.0,0.0,0,NULL);
INSERT INTO "candidates" VALUES(3,2,'000000000003','def merge_models(model_dict, device):
    return 3 * sum(model_dict.values())
','generator','0','prompt','def merge_models(model_dict, device):
    return 3 * sum(model_dict.values())
','{"temperature": 1.0, "top_p": 1.0, "seed": 3, "batch": 0, "row": 3, "top_k": 0}','[]','one_shot',NULL,'ok',NULL,NULL,NULL,NULL,NULL,'b3',NULL,0.5,'{"value": 0.5, "strict": 0.5, "lenient": 0.5, "low": 0.15003898915214958, "high": 0.8499610108478504, "n": 4, "of": 6, "effective_n": 4, "bits": "1100--", "strict_bits": "1100--", "lenient_bits": "1100--", "scorer_version": "1", "families": {"sums": 0.5}}',0.0,0.0,0,NULL);
INSERT INTO "candidates" VALUES(4,2,'000000000004','def merge_models(model_dict, device):
    return 4 * sum(model_dict.values())
','generator','0','prompt','def merge_models(model_dict, device):
    return 4 * sum(model_dict.values())
','{"temperature": 1.0, "top_p": 1.0, "seed": 4, "batch": 0, "row": 4, "top_k": 0}','[]','one_shot',NULL,'pending',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0.0,0.0,0,NULL);
CREATE TABLE finals (
	"key" VARCHAR(192) NOT NULL, 
	number INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	rank INTEGER NOT NULL, 
	dev DOUBLE NOT NULL, 
	parameters JSON NOT NULL, 
	score JSON NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "finals" VALUES('human/ties',1,'ties','human',1,0.5,'{"density": 0.3}','{"value": 0.5, "strict": 0.5, "lenient": 0.5, "low": 0.15003898915214958, "high": 0.8499610108478504, "n": 4, "of": 4, "effective_n": 4, "bits": "1100", "strict_bits": "1100", "lenient_bits": "1100", "scorer_version": "1", "families": {"sums": 0.5}}');
CREATE TABLE meta (
	"key" VARCHAR(64) NOT NULL, 
	value JSON NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema','{"version": 3}');
INSERT INTO "meta" VALUES('suites','{"dev": [], "test": []}');
CREATE TABLE phases (
	phase VARCHAR(32) NOT NULL, 
	iteration INTEGER NOT NULL, 
	seconds DOUBLE NOT NULL, 
	count INTEGER NOT NULL, 
	PRIMARY KEY (phase, iteration)
);
INSERT INTO "phases" VALUES('search',1,2.0,3);
CREATE TABLE replies (
	"key" VARCHAR(64) NOT NULL, 
	reply JSON NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE stages (
	stage VARCHAR(32) NOT NULL, 
	iteration INTEGER NOT NULL, 
	seconds DOUBLE NOT NULL, 
	count INTEGER NOT NULL, 
	PRIMARY KEY (stage, iteration)
);
CREATE TABLE trials (
	"key" VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	parameters JSON NOT NULL, 
	score JSON NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "trials" VALUES('4a69e1a7c0fcc2afab446c532d384df249f2c14440c7cec10fac1a156a76aa69',1,'ties','human','{"density": 0.3}','{"value": 0.5, "strict": 0.5, "lenient": 0.5, "low": 0.15003898915214958, "high": 0.8499610108478504, "n": 4, "of": 4, "effective_n": 4, "bits": "1100", "strict_bits": "1100", "lenient_bits": "1100", "scorer_version": "1", "families": {"sums": 0.5}}');
CREATE TABLE updates (
	iteration INTEGER NOT NULL, 
	method VARCHAR(32) NOT NULL, 
	report JSON NOT NULL, 
	PRIMARY KEY (iteration)
);
INSERT INTO "updates" VALUES(1,'dpo','{"trained": true}');
CREATE TABLE verdicts (
	model VARCHAR(160) NOT NULL, 
	suite VARCHAR(64) NOT NULL, 
	strict TEXT NOT NULL, 
	lenient TEXT NOT NULL, 
	PRIMARY KEY (model, suite)
);
INSERT INTO "verdicts" VALUES('merge:a','s','1-','1-');
CREATE INDEX ix_candidates_outcome ON candidates (outcome);
CREATE INDEX ix_candidates_program_id ON candidates (program_id);
CREATE INDEX ix_candidates_value ON candidates (value);
CREATE INDEX ix_candidates_behaviour ON candidates (behaviour);
CREATE INDEX ix_candidates_iteration ON candidates (iteration);
CREATE INDEX ix_trials_name ON trials (name);
COMMIT;
