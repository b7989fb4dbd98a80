BEGIN TRANSACTION;
CREATE TABLE completions (
	tenant TEXT NOT NULL, 
	id TEXT NOT NULL, 
	result_seq BIGINT, 
	model TEXT, 
	worker TEXT, 
	input_tokens BIGINT, 
	cached_tokens BIGINT, 
	output_tokens BIGINT, 
	price BIGINT, 
	queued_ms DOUBLE, 
	first_token_ms DOUBLE, 
	total_ms DOUBLE, 
	finished DOUBLE, 
	day TEXT, 
	PRIMARY KEY (tenant, id)
);
INSERT INTO "completions" VALUES('default','d1',25,'nano','w1',7,0,1,1,0.0,0.0,0.0,1790086403.0,'2026-09-22');
INSERT INTO "completions" VALUES('default','d2',26,'nano','w1',7,0,2,2,0.0,0.0,0.0,1790086403.0,'2026-09-22');
CREATE TABLE deletions (
	tenant TEXT NOT NULL, 
	session TEXT NOT NULL, 
	deleted_seq BIGINT, 
	below BIGINT, 
	deleted DOUBLE, 
	PRIMARY KEY (tenant, session)
);
CREATE TABLE erased (
	tenant TEXT NOT NULL, 
	session TEXT NOT NULL, 
	agent TEXT NOT NULL, 
	model TEXT NOT NULL, 
	day TEXT NOT NULL, 
	result_seq BIGINT, 
	calls BIGINT, 
	input_tokens BIGINT, 
	cached_tokens BIGINT, 
	output_tokens BIGINT, 
	price BIGINT, 
	PRIMARY KEY (tenant, session, agent, model, day)
);
CREATE TABLE projection (
	id INTEGER NOT NULL, 
	schema_version INTEGER NOT NULL, 
	sequence BIGINT NOT NULL, 
	oldest BIGINT NOT NULL, 
	replay_from BIGINT NOT NULL, 
	replay_until BIGINT, 
	PRIMARY KEY (id)
);
INSERT INTO "projection" VALUES(1,2,26,1,1,NULL);
CREATE TABLE sessions (
	tenant TEXT NOT NULL, 
	session TEXT NOT NULL, 
	opened_seq BIGINT, 
	opened DOUBLE, 
	touched_seq BIGINT, 
	touched DOUBLE, 
	PRIMARY KEY (tenant, session)
);
INSERT INTO "sessions" VALUES('acme','s1',8,1790000002.0,13,1790000002.084);
INSERT INTO "sessions" VALUES('default','s1',1,1790000000.0,24,1790086402.0);
CREATE TABLE steps (
	tenant TEXT NOT NULL, 
	session TEXT NOT NULL, 
	task TEXT NOT NULL, 
	step BIGINT NOT NULL, 
	result_seq BIGINT, 
	kind TEXT, 
	name TEXT, 
	worker TEXT, 
	status TEXT, 
	attempt BIGINT, 
	input_tokens BIGINT, 
	cached_tokens BIGINT, 
	output_tokens BIGINT, 
	price BIGINT, 
	queued_ms DOUBLE, 
	first_token_ms DOUBLE, 
	total_ms DOUBLE, 
	cached BOOLEAN, 
	error_code TEXT, 
	started DOUBLE, 
	finished DOUBLE, 
	day TEXT, 
	failed_seq BIGINT, 
	failed_code TEXT, 
	failed_attempt BIGINT, 
	failed_kind TEXT, 
	failed DOUBLE, 
	PRIMARY KEY (tenant, session, task, step)
);
INSERT INTO "steps" VALUES('default','s1','t2',0,16,'infer','nano','w1','ok',2,100,64,10,1500,0.0,5.0,40.0,0,'',1790000003.46,1790000003.5,'2026-09-21',15,'engine_unavailable',1,'infer',1790000003.1);
INSERT INTO "steps" VALUES('default','s1','t3',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,22,'engine_unavailable',4,'infer',1790086401.0);
INSERT INTO "steps" VALUES('acme','s1','t1',0,10,'infer','nano','w1','ok',1,100,64,10,1500,1.0,5.0,40.0,0,'',1790000002.006,1790000002.046,'2026-09-21',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES('acme','s1','t1',1,11,'tool','calculator','','ok',1,0,0,0,0,0.0,0.0,3.0,0,'',1790000002.048,1790000002.051,'2026-09-21',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES('acme','s1','t1',2,12,'infer','nano','w1','ok',1,100,64,10,1500,0.0,5.0,30.0,0,'',1790000002.053,1790000002.083,'2026-09-21',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES('default','s1','t1',0,3,'infer','nano','w1','ok',1,100,64,10,1500,1.0,5.0,40.0,0,'',1790000000.006,1790000000.046,'2026-09-21',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES('default','s1','t1',1,4,'tool','calculator','','ok',1,0,0,0,0,0.0,0.0,3.0,0,'',1790000000.048,1790000000.051,'2026-09-21',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES('default','s1','t1',2,5,'infer','nano','w1','ok',1,100,64,10,1500,0.0,5.0,30.0,0,'',1790000000.053,1790000000.083,'2026-09-21',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES('default','s1','t2',1,18,'tool','calculator','','failed',1,0,0,0,0,0.0,0.0,0.0,0,'tool_error',1790000003.7,1790000003.7,'2026-09-21',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE tasks (
	tenant TEXT NOT NULL, 
	session TEXT NOT NULL, 
	task TEXT NOT NULL, 
	submitted_seq BIGINT, 
	agent TEXT, 
	submitted DOUBLE, 
	input TEXT, 
	accepted_seq BIGINT, 
	revision BIGINT, 
	accepted DOUBLE, 
	done_seq BIGINT, 
	status TEXT, 
	done DOUBLE, 
	steps BIGINT, 
	infer_steps BIGINT, 
	tool_steps BIGINT, 
	input_tokens BIGINT, 
	cached_tokens BIGINT, 
	output_tokens BIGINT, 
	price BIGINT, 
	error_code TEXT, 
	output TEXT, 
	PRIMARY KEY (tenant, session, task)
);
INSERT INTO "tasks" VALUES('acme','s1','t1',8,'assistant',1790000002.0,'17 * 23?',9,3,1790000002.002,13,'completed',1790000002.084,3,2,1,200,128,20,3000,'','It is 391.');
INSERT INTO "tasks" VALUES('default','s1','t1',1,'assistant',1790000000.0,'17 * 23?',2,3,1790000000.002,6,'completed',1790000000.084,3,2,1,200,128,20,3000,'','It is 391.');
INSERT INTO "tasks" VALUES('default','s1','t2',7,'assistant',1790000001.0,'17 * 23?',14,3,1790000003.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('default','s1','t3',20,'assistant',1790086400.0,'tell me',21,3,1790086400.1,23,'failed',1790086401.0,0,0,0,0,0,0,0,'engine_unavailable','');
CREATE TABLE waits (
	tenant TEXT NOT NULL, 
	session TEXT NOT NULL, 
	task TEXT NOT NULL, 
	step BIGINT NOT NULL, 
	parked_seq BIGINT, 
	parked DOUBLE, 
	reason TEXT, 
	answered_seq BIGINT, 
	answered DOUBLE, 
	PRIMARY KEY (tenant, session, task, step)
);
CREATE INDEX tasks_recent ON tasks (tenant, submitted_seq);
CREATE INDEX steps_days ON steps (tenant, day);
CREATE INDEX completions_days ON completions (tenant, day);
CREATE VIEW usage AS SELECT calls.tenant, calls.agent, calls.session, calls.task, calls.model, calls.day, calls.sequence, calls.calls, calls.input_tokens, calls.cached_tokens, calls.output_tokens, calls.price 
FROM (SELECT steps.tenant AS tenant, coalesce(tasks.agent, '') AS agent, steps.session AS session, steps.task AS task, steps.name AS model, steps.day AS day, steps.result_seq AS sequence, 1 AS calls, steps.input_tokens AS input_tokens, steps.cached_tokens AS cached_tokens, steps.output_tokens AS output_tokens, steps.price AS price 
FROM steps LEFT OUTER JOIN tasks ON steps.tenant = tasks.tenant AND steps.session = tasks.session AND steps.task = tasks.task 
WHERE steps.kind = 'infer' UNION ALL SELECT completions.tenant AS tenant, '' AS agent, '' AS session, completions.id AS task, completions.model AS model, completions.day AS day, completions.result_seq AS sequence, 1 AS calls, completions.input_tokens AS input_tokens, completions.cached_tokens AS cached_tokens, completions.output_tokens AS output_tokens, completions.price AS price 
FROM completions UNION ALL SELECT erased.tenant AS tenant, erased.agent AS agent, erased.session AS session, '' AS task, erased.model AS model, erased.day AS day, erased.result_seq AS sequence, erased.calls AS calls, erased.input_tokens AS input_tokens, erased.cached_tokens AS cached_tokens, erased.output_tokens AS output_tokens, erased.price AS price 
FROM erased) AS calls;
COMMIT;
