PRAGMA user_version = 7;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            token TEXT NOT NULL,
            request_id TEXT,
            base_url TEXT NOT NULL,
            mode TEXT NOT NULL,
            state TEXT NOT NULL,
            request TEXT,
            destination TEXT,
            promised TEXT NOT NULL,
            seed INTEGER,
            samples INTEGER,
            work INTEGER,
            sources TEXT NOT NULL,
            files TEXT NOT NULL,
            charged TEXT NOT NULL,
            cost REAL,
            expected_cost REAL NOT NULL,
            remaining_credits REAL,
            queue_time REAL,
            inference_time REAL,
            total_time REAL,
            seconds REAL,
            error TEXT,
            created_at REAL NOT NULL,
            submitted_at REAL,
            completed_at REAL,
            saved_at REAL,
            updated_at REAL NOT NULL,
            owner TEXT,
            claimed_at REAL,
            resubmit_of INTEGER,
            superseded_by INTEGER
        , run TEXT, taken_at REAL);
INSERT INTO "jobs" VALUES(1,'token1','00000001-c0de-4000-8000-000000000001','http://GATEWAY','async','queued','{"prompt": "a fox", "negative_prompt": "", "aspect_ratio": "1:1 square 1024x1024", "width": 1024, "height": 1024, "cfg": 7.0, "sampler_name": "euler", "scheduler": "beta", "steps": 40, "seed": 1, "samples": 1, "image_format": "png", "image_quality": 95, "base64": false}',NULL,'[]',1,1,41943040,'[]','{}','unknown',NULL,0.055,NULL,NULL,NULL,NULL,NULL,NULL,1796000000.0,1796000000.0,NULL,NULL,1796000000.0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'token2',NULL,'http://GATEWAY','async','unknown','{"prompt": "a fox", "negative_prompt": "", "aspect_ratio": "1:1 square 1024x1024", "width": 1024, "height": 1024, "cfg": 7.0, "sampler_name": "euler", "scheduler": "beta", "steps": 40, "seed": 2, "samples": 1, "image_format": "png", "image_quality": 95, "base64": false}',NULL,'[]',2,1,41943040,'[]','{}','unknown',NULL,0.055,NULL,NULL,NULL,NULL,NULL,NULL,1796000000.0,NULL,NULL,NULL,1796000000.0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'token3',NULL,'http://GATEWAY','async','failed','{"prompt": "a fox", "negative_prompt": "", "aspect_ratio": "1:1 square 1024x1024", "width": 1024, "height": 1024, "cfg": 7.0, "sampler_name": "euler", "scheduler": "beta", "steps": 40, "seed": 3, "samples": 1, "image_format": "png", "image_quality": 95, "base64": false}',NULL,'[]',3,1,41943040,'[]','{}','no',NULL,0.055,NULL,NULL,NULL,NULL,NULL,NULL,1796000000.0,NULL,NULL,NULL,1796000000.0,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE promises (path TEXT NOT NULL, job INTEGER NOT NULL, PRIMARY KEY (path, job)) WITHOUT ROWID;
CREATE TABLE totals (base_url TEXT PRIMARY KEY, jobs INTEGER NOT NULL, cost REAL NOT NULL);
INSERT INTO "totals" VALUES('http://GATEWAY',3,0.0);
CREATE INDEX jobs_by_request ON jobs (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX jobs_by_place ON jobs (base_url, number);
CREATE INDEX jobs_unsettled ON jobs (number) WHERE state IN ('submitting', 'queued', 'processing', 'completed', 'unknown');
CREATE INDEX jobs_failed ON jobs (number) WHERE state IN ('failed', 'expired');
CREATE INDEX jobs_durations ON jobs (base_url, work, number, seconds) WHERE seconds IS NOT NULL;
CREATE INDEX jobs_spent ON jobs (created_at, charged, cost, expected_cost);
CREATE INDEX promises_by_job ON promises (job);
CREATE TRIGGER totals_new_job AFTER INSERT ON jobs BEGIN
            INSERT OR IGNORE INTO totals (base_url, jobs, cost) VALUES (NEW.base_url, 0, 0.0);
            UPDATE totals SET jobs = jobs + 1, cost = cost + coalesce(NEW.cost, 0.0)
             WHERE base_url = NEW.base_url;
        END;
CREATE TRIGGER totals_new_cost AFTER UPDATE OF cost ON jobs WHEN NEW.cost IS NOT OLD.cost BEGIN
            UPDATE totals SET cost = cost + coalesce(NEW.cost, 0.0) - coalesce(OLD.cost, 0.0)
             WHERE base_url = NEW.base_url;
        END;
CREATE INDEX jobs_by_run ON jobs (run) WHERE run IS NOT NULL;
CREATE INDEX jobs_prices ON jobs (base_url, work, samples, cost) WHERE cost > 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',3);
